// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope_cpu.h"

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

HWY_ATTR void RotateRow(const float* cosine, const float* sine, int64_t heads, int64_t half, bool inverse, float* x) {
  const V32 sign = splat(inverse ? -1.0F : 1.0F);
  for (int64_t h = 0; h < heads; ++h) {
    float* low = x + h * 2 * half;
    float* high = low + half;
    for_vectors(half, [&](int64_t i, auto io) HWY_ATTR {
      const V32 c = io.load(cosine + i);
      const V32 s = hn::Mul(io.load(sine + i), sign);
      const V32 a = io.load(low + i);
      const V32 b = io.load(high + i);
      io.store(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), low + i);
      io.store(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), high + i);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(RotateRow);
}  // namespace

void rope_rows_cpu(const RopeRows& spec, float* x, int64_t stride) {
  const int64_t width = 2 * spec.heads * spec.half;
  parallel_for(spec.rows, 8192 / (width + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(RotateRow)
      (spec.cosine + r * spec.half, spec.sine + r * spec.half, spec.heads, spec.half, spec.inverse, x + r * stride);
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
