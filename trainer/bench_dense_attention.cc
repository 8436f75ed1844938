// SPDX-License-Identifier: Apache-2.0
#include "trainer/bench_dense_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trainer/bench_dense_attention.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/matmul.h"
#include "kernels/parallel_for.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

void SoftmaxVisible(float* row, int64_t visible, int64_t tokens) {
  // Lanes past the end read as 0: a maximum of at least 0 is as good, for the weights are shifted back by the sum.
  auto largest = hn::Zero(F32());
  for_vectors(visible, [&](int64_t i, auto io) HWY_ATTR { largest = hn::Max(largest, io.load(row + i)); });
  const float m = max_lanes(largest);
  auto sum = hn::Zero(F32());
  for_vectors(visible, [&](int64_t i, auto io) HWY_ATTR {
    const auto p = io.keep(hn::Exp(F32(), hn::Sub(io.load(row + i), splat(m))));
    sum = hn::Add(sum, p);
    io.store(p, row + i);
  });
  const auto inverse = splat(1.0F / sum_lanes(sum));
  for_vectors(visible, [&](int64_t i, auto io) HWY_ATTR { io.store(hn::Mul(io.load(row + i), inverse), row + i); });
  std::fill(row + visible, row + tokens, 0.0F);
}

// ds = p (dp - p . dp), in place of dp.
void SoftmaxBackward(const float* p, float* dp, int64_t visible, int64_t tokens) {
  auto sum = hn::Zero(F32());
  for_vectors(visible, [&](int64_t i, auto io) HWY_ATTR { sum = hn::MulAdd(io.load(p + i), io.load(dp + i), sum); });
  const auto mean = splat(sum_lanes(sum));
  for_vectors(visible, [&](int64_t i, auto io)
                           HWY_ATTR { io.store(hn::Mul(io.load(p + i), hn::Sub(io.load(dp + i), mean)), dp + i); });
  std::fill(dp + visible, dp + tokens, 0.0F);
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {

HWY_EXPORT(SoftmaxVisible);
HWY_EXPORT(SoftmaxBackward);

constexpr int64_t kRowGrain = 16;

void softmax_scalar(float* row, int64_t visible, int64_t tokens) {
  std::fill(row + visible, row + tokens, -std::numeric_limits<float>::infinity());
  const float m = *std::max_element(row, row + tokens);
  float sum = 0.0F;
  for (int64_t j = 0; j < tokens; ++j) {
    row[j] = std::exp(row[j] - m);
    sum += row[j];
  }
  for (int64_t j = 0; j < tokens; ++j) row[j] /= sum;
}

float score_factor(const DenseHead& head) { return 1.0F / std::sqrt(static_cast<float>(head.width)); }

}  // namespace

void dense_head_forward(const DenseHead& head, DenseSoftmax softmax, float* weights, float* out) {
  const int64_t t = head.tokens;
  matmul(Transpose::no, Transpose::yes, t, t, head.width, score_factor(head), head.q, head.stride, head.k, head.stride,
         0.0F, weights, t);
  parallel_for(t, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (softmax == DenseSoftmax::scalar) {
        softmax_scalar(weights + i * t, i + 1, t);
      } else {
        HWY_DYNAMIC_DISPATCH(SoftmaxVisible)(weights + i * t, i + 1, t);
      }
    }
  });
  matmul(Transpose::no, Transpose::no, t, head.width, t, 1.0F, weights, t, head.v, head.stride, 0.0F, out, head.stride);
}

void dense_head_backward(const DenseHead& head, const float* weights, const DenseHeadGradients& g, float* work) {
  const int64_t t = head.tokens, n = head.width, stride = head.stride;
  matmul(Transpose::yes, Transpose::no, t, n, t, 1.0F, weights, t, g.dout, stride, 0.0F, g.dv, stride);
  matmul(Transpose::no, Transpose::yes, t, t, n, 1.0F, g.dout, stride, head.v, stride, 0.0F, work, t);
  parallel_for(t, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      HWY_DYNAMIC_DISPATCH(SoftmaxBackward)(weights + i * t, work + i * t, i + 1, t);
    }
  });
  const float factor = score_factor(head);
  matmul(Transpose::no, Transpose::no, t, n, t, factor, work, t, head.k, stride, 0.0F, g.dq, stride);
  matmul(Transpose::yes, Transpose::no, t, n, t, factor, work, t, head.q, stride, 0.0F, g.dk, stride);
}

}  // namespace farsight
#endif  // HWY_ONCE
