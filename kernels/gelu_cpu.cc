// SPDX-License-Identifier: Apache-2.0
#include "kernels/gelu_cpu.h"

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gelu_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// (1 + tanh(z)) / 2 = sigmoid(2z), so one exponential does both; 2z = x (a + b x^2).
constexpr float kA = 1.5957691216057308F;  // 2 sqrt(2 / pi)
constexpr float kB = 0.0713548162726009F;  // 0.044715 a

HWY_ATTR void GeluRow(const float* x, int64_t n, float* y) {
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 v = io.load(x + i);
    const V32 z = hn::Mul(v, hn::MulAdd(hn::Mul(v, v), splat(kB), splat(kA)));
    io.store(hn::Mul(v, sigmoid(z)), y + i);
  });
}

// dy/dx = s + x s (1 - s) (a + 3 b x^2).
HWY_ATTR void GeluGradientRow(const float* x, const float* dy, int64_t n, bool add, float* dx) {
  const V32 one = splat(1.0F);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 v = io.load(x + i);
    const V32 square = hn::Mul(v, v);
    const V32 s = sigmoid(hn::Mul(v, hn::MulAdd(square, splat(kB), splat(kA))));
    const V32 inner = hn::Mul(v, hn::MulAdd(square, splat(3.0F * kB), splat(kA)));
    const V32 slope = hn::Mul(s, hn::MulAdd(hn::Sub(one, s), inner, one));
    accumulate(io, hn::Mul(io.load(dy + i), slope), add, dx + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(GeluRow);
HWY_EXPORT(GeluGradientRow);
}  // namespace

void gelu_forward_cpu(const float* x, int64_t stride, int64_t rows, int64_t cols, float* y) {
  parallel_for(rows, 4096 / (cols + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) HWY_DYNAMIC_DISPATCH(GeluRow)(x + r * stride, cols, y + r * cols);
  });
}

void gelu_backward_cpu(const float* x, int64_t stride, const float* dy, int64_t rows, int64_t cols, bool add, float* dx,
                       int64_t dstride) {
  parallel_for(rows, 4096 / (cols + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(GeluGradientRow)(x + r * stride, dy + r * cols, cols, add, dx + r * dstride);
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
