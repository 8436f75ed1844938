// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu_cpu.h"

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/swiglu_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

HWY_ATTR void ForwardRow(const float* gate, const float* up, int64_t n, float* y) {
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 a = io.load(gate + i);
    io.store(hn::Mul(hn::Mul(a, sigmoid(a)), io.load(up + i)), y + i);
  });
}

// dup = dy a s;  dgate = dy up s (1 + a (1 - s)),  s = sigmoid(a).
HWY_ATTR void BackwardRow(const float* gate, const float* up, const float* dy, int64_t n, bool add, float* dgate,
                          float* dup) {
  const V32 one = splat(1.0F);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 a = io.load(gate + i);
    const V32 s = sigmoid(a);
    const V32 dys = hn::Mul(io.load(dy + i), s);
    const V32 slope = hn::MulAdd(a, hn::Sub(one, s), one);
    accumulate(io, hn::Mul(hn::Mul(dys, io.load(up + i)), slope), add, dgate + i);
    accumulate(io, hn::Mul(dys, a), add, dup + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(ForwardRow);
HWY_EXPORT(BackwardRow);
}  // namespace

void swiglu_forward_cpu(const float* gate_up, int64_t stride, int64_t rows, int64_t width, float* y) {
  parallel_for(rows, 4096 / (width + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = gate_up + r * stride;
      HWY_DYNAMIC_DISPATCH(ForwardRow)(row, row + width, width, y + r * width);
    }
  });
}

void swiglu_backward_cpu(const float* gate_up, int64_t stride, const float* dy, int64_t rows, int64_t width, bool add,
                         float* dgate_up, int64_t dstride) {
  parallel_for(rows, 4096 / (width + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = gate_up + r * stride;
      float* drow = dgate_up + r * dstride;
      HWY_DYNAMIC_DISPATCH(BackwardRow)(row, row + width, dy + r * width, width, add, drow, drow + width);
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
