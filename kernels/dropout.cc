// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/dropout_cpu.h"
#include "kernels/error.h"
#include "kernels/random.h"
#include "kernels/rows.h"

namespace farsight {

DropoutDraw::DropoutDraw(const char* op, const DropoutSite* site, int64_t rows) {
  if (site == nullptr || site->p == 0.0) return;
  if (!(site->p > 0.0 && site->p < 1.0)) fail(ErrorKind::internal, "{}: dropout p = {} is not in [0, 1)", op, site->p);
  const int64_t all = static_cast<int64_t>(site->keys.size()) * site->tokens_per_sample;
  const int64_t count = site->row_count < 0 ? all : site->row_count;
  const bool inside = site->first_row >= 0 && site->first_row + count <= all;
  if (!site->positions.defined() || site->positions.numel() != all || !inside || count != rows ||
      site->first_channel % 4 != 0) {
    fail(ErrorKind::internal,
         "{}: dropout site of {} samples x {} tokens, {} rows from {}, first channel {}, does not fit {} rows", op,
         site->keys.size(), site->tokens_per_sample, count, site->first_row, site->first_channel, rows);
  }
  p_ = site->p;
  keys_.assign(site->keys.begin(), site->keys.end());
  positions_ = site->positions;
  tokens_ = site->tokens_per_sample;
  first_row_ = site->first_row;
  first_channel_ = site->first_channel;
  if (positions_.device() == Device::cpu) return;
  device_keys_ = device_copy({reinterpret_cast<const int64_t*>(keys_.data()), keys_.size()});
}

CudaDropout DropoutDraw::cuda() const {
  if (!active()) return {};
  return {static_cast<const uint64_t*>(device_keys_.raw()),
          static_cast<const int32_t*>(positions_.raw()),
          tokens_,
          first_row_,
          first_channel_,
          dropout_threshold(p_),
          static_cast<float>(1.0 / (1.0 - p_))};
}

void DropoutDraw::factors(int64_t row, int64_t begin, int64_t count, float* factors) const {
  row += first_row_;
  dropout_factors_cpu(keys_[static_cast<size_t>(row / tokens_)], positions_.data<int32_t>()[row],
                      first_channel_ + begin, count, dropout_threshold(p_), static_cast<float>(1.0 / (1.0 - p_)),
                      factors);
}

void DropoutDraw::factors_of_rows(int64_t row, int64_t rows, int64_t count, float* factors) const {
  row += first_row_;
  while (rows > 0) {  // sample by sample
    const int64_t run = std::min(rows, tokens_ - row % tokens_);
    dropout_factors_cpu(keys_[static_cast<size_t>(row / tokens_)], positions_.data<int32_t>() + row, run,
                        first_channel_, count, dropout_threshold(p_), static_cast<float>(1.0 / (1.0 - p_)), factors);
    row += run;
    rows -= run;
    factors += run * count;
  }
}

// Rows below this many columns do not fill the vectors of most CPUs.
constexpr int64_t kNarrow = 32, kRowsTogether = 16;

DropoutRows::DropoutRows(const DropoutDraw& draw, int64_t cols)
    : draw_(draw), cols_(cols), together_(cols < kNarrow ? kRowsTogether : 1) {
  if (draw.active()) factors_.resize(static_cast<size_t>(together_ * cols));
}

const float* DropoutRows::row(int64_t r) {
  if (!draw_.active()) return nullptr;
  if (r < begin_ || r >= end_) {
    begin_ = r;
    end_ = std::min(r + together_, draw_.rows());
    draw_.factors_of_rows(begin_, end_ - begin_, cols_, factors_.data());
  }
  return factors_.data() + (r - begin_) * cols_;
}

void dropout_rows(const DropoutDraw& draw, const Tensor& x, const Tensor& y, bool add) {
  expect_together("dropout", {&x, &y});
  if (x.device() == Device::cpu) {
    dropout_rows_cpu(draw, x.data<float>(), x.row_stride(), x.rows(), x.cols(), add, y.data<float>(), y.row_stride());
    return;
  }
  const CudaDropoutRows a{x.dtype(), x.rows(),       x.cols(), x.raw(),    x.row_stride(),
                          y.raw(),   y.row_stride(), add,      draw.cuda()};
  cuda_device().run("dropout", &CudaBackend::dropout_rows, a);
}

Var dropout(Tape& tape, const Var& x, const DropoutSite& site) {
  const Tensor& in = x.value();
  DropoutDraw draw("dropout", &site, in.rows());
  if (!draw.active()) return x;
  Tensor y = Tensor::empty(in.shape(), in.dtype());
  dropout_rows(draw, in, y, /*add=*/false);
  const Var out = tape.variable(std::move(y), {x});
  tape.record(out, {}, [x, out, draw = std::move(draw)] {
    const Gradient dx = x.begin_gradient();
    dropout_rows(draw, out.grad(), dx.tensor, dx.beta != 0.0F);
  });
  return out;
}

Var add_dropout(Tape& tape, const Var& x, const Var& residual, const DropoutSite& site) {
  expect_shape("add_dropout", "x", x.value(), residual.shape());
  DropoutDraw draw("add_dropout", &site, x.value().rows());
  const Tensor sum = residual.value().clone();
  draw.active() ? dropout_rows(draw, x.value(), sum, /*add=*/true) : add_rows(x.value(), sum);
  const Var out = tape.variable(sum, {x, residual});
  tape.record(out, {}, [x, residual, out, draw = std::move(draw)] {
    if (x.requires_grad()) {
      const Gradient dx = x.begin_gradient();
      const bool add = dx.beta != 0.0F;
      if (draw.active()) {
        dropout_rows(draw, out.grad(), dx.tensor, add);
      } else {
        add ? add_rows(out.grad(), dx.tensor) : copy_rows(out.grad(), dx.tensor);
      }
    }
    give_gradient(residual, out.grad());
  });
  return out;
}

}  // namespace farsight
