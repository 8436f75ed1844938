// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross_entropy_cpu.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cross_entropy_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

constexpr int64_t kBlock = 4096;  // elements summed in fp32

HWY_ATTR float MaxLogit(const float* z, int64_t n) {
  const V32 lowest = splat(-std::numeric_limits<float>::infinity());
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  V32 a = lowest, b = lowest;
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    a = hn::Max(a, hn::LoadU(F32(), z + i));
    b = hn::Max(b, hn::LoadU(F32(), z + i + lanes));
  }
  float largest = max_lanes(hn::Max(a, b));
  for (; i < n; ++i) largest = std::max(largest, z[i]);
  return largest;
}

HWY_ATTR LogitSums Exponentiate(float* z, int64_t n, float m) {
  LogitSums total;
  const V32 shift = splat(m);
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    V32 exponentials = hn::Zero(F32()), shifted = exponentials;
    float* block = z + begin;
    for_vectors(std::min(kBlock, n - begin), [&](int64_t i, auto io) HWY_ATTR {
      const V32 s = io.keep(hn::Sub(io.load(block + i), shift));
      const V32 e = hn::Exp(F32(), s);
      shifted = hn::Add(shifted, s);
      exponentials = hn::Add(exponentials, io.keep(e));
      io.store(e, block + i);
    });
    total.exponentials += static_cast<double>(sum_lanes(exponentials));
    total.shifted += static_cast<double>(sum_lanes(shifted));
  }
  return total;
}

HWY_ATTR void ScaleLogits(float* z, int64_t n, float factor, float offset) {
  const V32 f = splat(factor), o = splat(offset);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR { io.store(hn::MulSub(io.load(z + i), f, o), z + i); });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(MaxLogit);
HWY_EXPORT(Exponentiate);
HWY_EXPORT(ScaleLogits);
}  // namespace

float max_logit_cpu(const float* z, int64_t n) { return HWY_DYNAMIC_DISPATCH(MaxLogit)(z, n); }

LogitSums exponentiate_logits_cpu(float* z, int64_t n, float m) { return HWY_DYNAMIC_DISPATCH(Exponentiate)(z, n, m); }

void scale_logits_cpu(float* z, int64_t n, float factor, float offset) {
  HWY_DYNAMIC_DISPATCH(ScaleLogits)(z, n, factor, offset);
}

}  // namespace farsight
#endif  // HWY_ONCE
