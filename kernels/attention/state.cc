// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention/block.h"
#include "kernels/attention/block_device.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int64_t kRowGrain = 64;

// Row r of [B, T, H] order as (b, t, h) and as index into statistics [B, H, T].
struct RowIndex {
  RowIndex(int64_t row, int64_t tokens, int64_t heads)
      : token(row / heads), head(row % heads), statistic((token / tokens * heads + head) * tokens + token % tokens) {}
  int64_t token, head, statistic;
};

void finish_row(float m, float l, float u, int64_t width, const float* o, float* out, float* lse, float* entropy) {
  if (l == 0.0F) {
    std::fill_n(out, width, 0.0F);
    *lse = kMinusInfinity;
    if (entropy != nullptr) *entropy = 0.0F;
    return;
  }
  const float log_l = std::log(l);
  *lse = m + log_l;
  if (entropy != nullptr) *entropy = log_l - u / l;
  const float inverse = 1.0F / l;
  for (int64_t i = 0; i < width; ++i) out[i] = o[i] * inverse;
}

// fp64 sum: D' enters every pair of the row.
float dot(const float* a, const float* b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return static_cast<float>(sum);
}

}  // namespace

AttentionState AttentionState::create(int64_t batch, int64_t tokens, int64_t heads, int64_t value_width, bool entropy) {
  const auto statistic = [&] { return Tensor::empty({batch, heads, tokens}, DType::f32, MemoryTag::attention); };
  return {statistic(), statistic(), entropy ? statistic() : Tensor(),
          Tensor::empty({batch, tokens, heads, value_width}, DType::f32, MemoryTag::attention)};
}

void AttentionState::reset() const {
  fill(m, kMinusInfinity);
  l.fill_zero();
  if (u.defined()) u.fill_zero();
  o.fill_zero();
}

void attention_finish(const AttentionState& state, const Tensor& out, const Tensor& lse, const Tensor& entropy) {
  const int64_t tokens = state.o.dim(1), heads = state.o.dim(2), width = state.o.dim(3);
  if (entropy.defined() && !state.u.defined()) {
    fail(ErrorKind::internal, "attention_finish: entropy asked for, but the state was created without it");
  }
  if (state.o.device() == Device::cuda) {
    attention_finish_cuda(state, out, lse, entropy);
    return;
  }
  const float* m = state.m.data<float>();
  const float* l = state.l.data<float>();
  const float* u = entropy.defined() ? state.u.data<float>() : nullptr;
  const float* o = state.o.data<float>();
  float* to = out.data<float>();
  float* row_lse = lse.data<float>();
  float* row_entropy = entropy.defined() ? entropy.data<float>() : nullptr;
  parallel_for(state.o.rows(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const RowIndex at(row, tokens, heads);
      const int64_t s = at.statistic;
      finish_row(m[s], l[s], u != nullptr ? u[s] : 0.0F, width, o + row * width,
                 to + at.token * out.row_stride() + at.head * width, row_lse + s,
                 row_entropy != nullptr ? row_entropy + s : nullptr);
    }
  });
}

void attention_backward_rows(const Tensor& lse, const Tensor& out, const Tensor& dout, int64_t value_width,
                             const Tensor& grad_entropy, const Tensor& entropy, const Tensor& grad_lse,
                             const Tensor& row_term) {
  if (grad_entropy.defined() && !entropy.defined()) {
    fail(ErrorKind::internal, "attention_backward_rows: a gradient of the entropy needs the entropy");
  }
  if (lse.device() == Device::cuda) {
    attention_backward_rows_cuda(lse, out, dout, value_width, grad_entropy, entropy, grad_lse, row_term);
    return;
  }
  const int64_t heads = lse.dim(1), tokens = lse.dim(2);
  const auto pointer = [](const Tensor& t) -> const float* { return t.defined() ? t.data<float>() : nullptr; };
  const float *row_lse = lse.data<float>(), *x = out.data<float>(), *dx = dout.data<float>();
  const float *gl = pointer(grad_lse), *gh = pointer(grad_entropy), *h = pointer(entropy);
  float* terms = row_term.data<float>();
  parallel_for(lse.numel(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const RowIndex at(row, tokens, heads);
      const int64_t s = at.statistic;
      terms[s] = 0.0F;
      if (row_lse[s] == kMinusInfinity) continue;
      const int64_t offset = at.head * value_width;
      float term =
          dot(dx + at.token * dout.row_stride() + offset, x + at.token * out.row_stride() + offset, value_width);
      if (gl != nullptr) term -= gl[s];
      if (gh != nullptr) term += gh[s] * h[s];
      terms[s] = term;
    }
  });
}

}  // namespace farsight
