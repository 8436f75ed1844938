// SPDX-License-Identifier: Apache-2.0
// Loops over float rows for the Highway files of this folder: whole vectors, then one masked remainder, with one body.
// Included once per target, after hwy/foreach_target.h.
//
//   for_vectors(n, [&](int64_t i, auto io) HWY_ATTR { io.store(hn::Mul(io.load(x + i), factor), y + i); });
#if defined(FARSIGHT_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FARSIGHT_KERNELS_SIMD_INL_H_
#undef FARSIGHT_KERNELS_SIMD_INL_H_
#else
#define FARSIGHT_KERNELS_SIMD_INL_H_
#endif

#include <cstdint>

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using F32 = hn::ScalableTag<float>;
using V32 = hn::Vec<F32>;

HWY_INLINE V32 splat(float x) { return hn::Set(F32(), x); }

// Access to a whole vector / to its first lanes (the others read as zero).
struct Whole {
  HWY_INLINE V32 load(const float* p) const { return hn::LoadU(F32(), p); }
  HWY_INLINE void store(V32 v, float* p) const { hn::StoreU(v, F32(), p); }
  HWY_INLINE V32 keep(V32 v) const { return v; }
};
struct Part {
  hn::Mask<F32> mask;
  HWY_INLINE V32 load(const float* p) const { return hn::MaskedLoad(mask, F32(), p); }
  HWY_INLINE void store(V32 v, float* p) const { hn::BlendedStore(v, mask, F32(), p); }
  HWY_INLINE V32 keep(V32 v) const { return hn::IfThenElseZero(mask, v); }
};

template <class Body>
HWY_INLINE void for_vectors(int64_t n, const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(i, Whole{});
  if (i < n) body(i, Part{hn::FirstN(F32(), static_cast<size_t>(n - i))});
}

HWY_INLINE float sum_lanes(V32 v) { return hn::GetLane(hn::SumOfLanes(F32(), v)); }
HWY_INLINE float max_lanes(V32 v) { return hn::GetLane(hn::MaxOfLanes(F32(), v)); }

// 1 / (1 + e^-x) without overflow.
HWY_INLINE V32 sigmoid(V32 x) {
  const V32 one = splat(1.0F);
  const V32 e = hn::Exp(F32(), hn::Neg(hn::Abs(x)));
  const V32 numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(F32())), e, one);
  return hn::Div(numerator, hn::Add(one, e));
}

// y = v + beta * y, without reading y for beta = 0 (it may hold anything then).
template <class Io>
HWY_INLINE void accumulate(Io io, V32 v, bool add, float* y) {
  io.store(add ? hn::Add(v, io.load(y)) : v, y);
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#endif  // per target
