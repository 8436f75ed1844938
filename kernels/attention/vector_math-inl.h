// SPDX-License-Identifier: Apache-2.0
// Vector arithmetic of the attention tiles: exponential and reciprocal. Included once per Highway target.
#if defined(FARSIGHT_KERNELS_ATTENTION_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FARSIGHT_KERNELS_ATTENTION_VECTOR_MATH_INL_H_
#undef FARSIGHT_KERNELS_ATTENTION_VECTOR_MATH_INL_H_
#else
#define FARSIGHT_KERNELS_ATTENTION_VECTOR_MATH_INL_H_
#endif

#include <cstdint>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using TileTag = hn::CappedTag<float, 16>;
using TileVec = hn::Vec<TileTag>;
using TileInts = hn::RebindToSigned<TileTag>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(TileTag()));

HWY_INLINE TileVec splat(float x) { return hn::Set(TileTag(), x); }

// e^x for x <= 88; 0 below -87 (where the result would leave the normal numbers); NaN stays NaN. e^0 = 1 exactly.
// Relative error <= 1.8e-7. Degree 5 with e^0 = 1 exact has a minimax error of 9.2e-8 on [-ln2/2, ln2/2]; the range is
// reduced with ln2 in two parts, and 2^n is added to the exponent bits.
HWY_INLINE TileVec tile_exp(TileVec x) {
  const TileInts di;
  const TileTag d;
  const auto shifter = splat(12582912.0F);  // 1.5 * 2^23: the sum keeps round(x / ln2) in its low bits
  const auto shifted = hn::MulAdd(x, splat(1.44269504F), shifter);
  const auto n = hn::Sub(shifted, shifter);
  auto r = hn::NegMulAdd(n, splat(0.693359375F), x);
  r = hn::NegMulAdd(n, splat(-2.12194440e-4F), r);
  auto p = hn::MulAdd(splat(8.290272380294563e-3F), r, splat(4.1898161867713266e-2F));
  p = hn::MulAdd(p, r, splat(1.6667638138417024e-1F));
  p = hn::MulAdd(p, r, splat(4.9999147824499496e-1F));
  p = hn::MulAdd(p, r, splat(9.999997063062134e-1F));
  p = hn::MulAdd(p, r, splat(1.0F));
  const auto scaled = hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  return hn::IfThenZeroElse(hn::Lt(x, splat(-87.0F)), hn::BitCast(d, scaled));
}

// 1 / x for 1 <= x <= 1e37, relative error <= 2e-7: the hardware estimate (12 or 14 bits) and one Newton step where
// there is one, which costs a third of a division.
HWY_INLINE TileVec tile_reciprocal(TileVec x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  const auto r = hn::ApproximateReciprocal(x);
  return hn::Mul(r, hn::NegMulAdd(x, r, splat(2.0F)));
#else
  return hn::Div(splat(1.0F), x);
#endif
}

HWY_INLINE float sum_lanes(TileVec v) { return hn::GetLane(hn::SumOfLanes(TileTag(), v)); }
HWY_INLINE float max_lanes(TileVec v) { return hn::GetLane(hn::MaxOfLanes(TileTag(), v)); }

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#endif  // per target
