// SPDX-License-Identifier: Apache-2.0
#include "kernels/sgd_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/sgd_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// No fused multiply-add, as in adamw_cpu.cc.
HWY_ATTR void Sgd(const SgdFactors& f, int64_t n, const float* gradient, float* value, float* buffer) {
  const V32 scale = splat(f.gradient_scale), momentum = splat(f.momentum), keep = splat(f.keep), rate = splat(f.rate);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    V32 b = hn::Mul(io.load(gradient + i), scale);
    if (buffer != nullptr) {
      b = hn::Add(hn::Mul(io.load(buffer + i), momentum), b);
      io.store(b, buffer + i);
    }
    io.store(hn::Sub(hn::Mul(io.load(value + i), keep), hn::Mul(b, rate)), value + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(Sgd);
}  // namespace

void sgd_cpu(const SgdFactors& factors, int64_t n, const float* gradient, float* value, float* momentum_buffer) {
  HWY_DYNAMIC_DISPATCH(Sgd)(factors, n, gradient, value, momentum_buffer);
}

}  // namespace farsight
#endif  // HWY_ONCE
