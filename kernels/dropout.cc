// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout.h"

#include <utility>

#include "kernels/dropout_cpu.h"
#include "kernels/error.h"
#include "kernels/random.h"

namespace farsight {

DropoutDraw::DropoutDraw(const char* op, const DropoutSite* site, int64_t rows) {
  if (site == nullptr || site->p == 0.0) return;
  if (!(site->p > 0.0 && site->p < 1.0)) fail(ErrorKind::internal, "{}: dropout p = {} is not in [0, 1)", op, site->p);
  const int64_t all = static_cast<int64_t>(site->keys.size()) * site->tokens_per_sample;
  const int64_t count = site->row_count < 0 ? all : site->row_count;
  const bool inside = site->first_row >= 0 && site->first_row + count <= all;
  if (site->positions == nullptr || !inside || count != rows || site->first_channel % 4 != 0) {
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
}

void DropoutDraw::factors(int64_t row, int64_t begin, int64_t count, float* factors) const {
  row += first_row_;
  dropout_factors_cpu(keys_[static_cast<size_t>(row / tokens_)], positions_[row], first_channel_ + begin, count,
                      dropout_threshold(p_), static_cast<float>(1.0 / (1.0 - p_)), factors);
}

Var dropout(Tape& tape, const Var& x, const DropoutSite& site) {
  const Tensor& in = x.value();
  DropoutDraw draw("dropout", &site, in.rows());
  if (!draw.active()) return x;
  Tensor y = Tensor::empty(in.shape());
  dropout_rows_cpu(draw, in.data<float>(), in.row_stride(), in.rows(), in.cols(), /*add=*/false, y.data<float>(),
                   y.cols());
  const Var out = tape.variable(std::move(y), {x});
  tape.record(out, {}, [x, out, draw = std::move(draw)] {
    const Tensor& dy = out.grad();
    const Gradient dx = x.begin_gradient();
    dropout_rows_cpu(draw, dy.data<float>(), dy.row_stride(), dy.rows(), dy.cols(), dx.beta != 0.0F,
                     dx.tensor.data<float>(), dx.tensor.row_stride());
  });
  return out;
}

}  // namespace farsight
