// SPDX-License-Identifier: Apache-2.0
#include "kernels/scaled_sum_cpu.h"

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/scaled_sum_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

HWY_ATTR void ScaledSumRow(const float* a, const float* b, float factor, int64_t n, float* y) {
  const V32 f = splat(factor);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR { io.store(hn::MulAdd(io.load(b + i), f, io.load(a + i)), y + i); });
}

HWY_ATTR void ScaledRow(const float* b, float factor, int64_t n, bool add, float* y) {
  const V32 f = splat(factor);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR { accumulate(io, hn::Mul(io.load(b + i), f), add, y + i); });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(ScaledSumRow);
HWY_EXPORT(ScaledRow);
}  // namespace

void scaled_sum_cpu(const ScaledSumRows& s) {
  parallel_for(s.rows, 8192 / (s.cols + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* b = s.b + r * s.b_stride;
      float* y = s.y + r * s.y_stride;
      if (s.a == nullptr) {
        HWY_DYNAMIC_DISPATCH(ScaledRow)(b, s.factor, s.cols, s.add, y);
      } else {
        HWY_DYNAMIC_DISPATCH(ScaledSumRow)(s.a + r * s.a_stride, b, s.factor, s.cols, y);
      }
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
