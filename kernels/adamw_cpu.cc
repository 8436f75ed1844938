// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adamw_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// No fused multiply-add: memory is the limit, and so every target rounds alike.
HWY_ATTR void AdamW(const AdamWFactors& f, int64_t n, const float* gradient, float* value, float* m, float* v) {
  const V32 scale = splat(f.gradient_scale), beta1 = splat(f.beta1), rest1 = splat(f.one_minus_beta1);
  const V32 beta2 = splat(f.beta2), rest2 = splat(f.one_minus_beta2), keep = splat(f.keep);
  const V32 step = splat(f.step_size), root = splat(f.root), eps = splat(f.eps);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 g = hn::Mul(io.load(gradient + i), scale);
    const V32 m1 = hn::Add(hn::Mul(beta1, io.load(m + i)), hn::Mul(rest1, g));
    const V32 v1 = hn::Add(hn::Mul(beta2, io.load(v + i)), hn::Mul(rest2, hn::Mul(g, g)));
    const V32 denominator = hn::Add(hn::Mul(hn::Sqrt(v1), root), eps);
    const V32 update = hn::Div(hn::Mul(step, m1), denominator);
    io.store(m1, m + i);
    io.store(v1, v + i);
    io.store(hn::Sub(hn::Mul(io.load(value + i), keep), update), value + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(AdamW);
}  // namespace

void adamw_cpu(const AdamWFactors& factors, int64_t n, const float* gradient, float* value, float* m, float* v) {
  HWY_DYNAMIC_DISPATCH(AdamW)(factors, n, gradient, value, m, v);
}

}  // namespace farsight
#endif  // HWY_ONCE
