// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention/block.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"

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
  std::fill_n(m.data<float>(), m.numel(), kMinusInfinity);
  l.fill_zero();
  if (u.defined()) u.fill_zero();
  o.fill_zero();
}

void attention_finish(const AttentionState& state, float* out, int64_t out_stride, float* lse, float* entropy) {
  const int64_t tokens = state.o.dim(1), heads = state.o.dim(2), width = state.o.dim(3);
  if (entropy != nullptr && !state.u.defined()) {
    fail(ErrorKind::internal, "attention_finish: entropy asked for, but the state was created without it");
  }
  const float* m = state.m.data<float>();
  const float* l = state.l.data<float>();
  const float* u = entropy != nullptr ? state.u.data<float>() : nullptr;
  const float* o = state.o.data<float>();
  parallel_for(state.o.rows(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const RowIndex at(row, tokens, heads);
      const int64_t s = at.statistic;
      finish_row(m[s], l[s], u != nullptr ? u[s] : 0.0F, width, o + row * width,
                 out + at.token * out_stride + at.head * width, lse + s, entropy != nullptr ? entropy + s : nullptr);
    }
  });
}

void attention_backward_rows(const Tensor& lse, const float* out, int64_t out_stride, const float* dout,
                             int64_t dout_stride, int64_t value_width, const float* grad_entropy, const float* entropy,
                             const float* grad_lse, float* row_term) {
  if (grad_entropy != nullptr && entropy == nullptr) {
    fail(ErrorKind::internal, "attention_backward_rows: a gradient of the entropy needs the entropy");
  }
  const int64_t heads = lse.dim(1), tokens = lse.dim(2);
  const float* row_lse = lse.data<float>();
  parallel_for(lse.numel(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const RowIndex at(row, tokens, heads);
      const int64_t s = at.statistic;
      row_term[s] = 0.0F;
      if (row_lse[s] == kMinusInfinity) continue;
      const int64_t offset = at.head * value_width;
      float term = dot(dout + at.token * dout_stride + offset, out + at.token * out_stride + offset, value_width);
      if (grad_lse != nullptr) term -= grad_lse[s];
      if (grad_entropy != nullptr) term += grad_entropy[s] * entropy[s];
      row_term[s] = term;
    }
  });
}

}  // namespace farsight
