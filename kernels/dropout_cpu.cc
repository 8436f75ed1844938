// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout_cpu.h"

#include <algorithm>

#include "kernels/parallel_for.h"
#include "kernels/random.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dropout_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR

void Factors(uint64_t key, int32_t position, int64_t channel, int64_t count, uint32_t threshold, float keep,
             float* factors) {
  for (int64_t i = 0; i < count; i += 4) {
    const auto block = static_cast<uint64_t>(channel + i) >> 2;
    const auto words = philox(key, {static_cast<uint32_t>(position), static_cast<uint32_t>(block), 0, 0});
    for (int64_t j = i; j < std::min(count, i + 4); ++j)
      factors[j] = words[static_cast<size_t>(j - i)] >= threshold ? keep : 0.0F;
  }
}

#else

using U64 = hn::ScalableTag<uint64_t>;
using U32 = hn::Repartition<uint32_t, U64>;
using V64 = hn::Vec<U64>;

// Low halves of 64-bit lanes times a constant: 64-bit products.
HWY_INLINE V64 wide_product(V64 a, uint32_t constant) {
  return hn::MulEven(hn::BitCast(U32(), a), hn::Set(U32(), constant));
}

// One Philox block per 64-bit lane, words in the low halves (the high halves hold anything between rounds).
struct Words {
  V64 w0, w1, w2, w3;
};

HWY_INLINE Words philox_lanes(uint64_t key, V64 c0, V64 c1, V64 c2, V64 c3) {
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const V64 p0 = wide_product(c0, 0xD2511F53U);
    const V64 p1 = wide_product(c2, 0xCD9E8D57U);
    c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c1), hn::Set(U64(), k0));
    c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c3), hn::Set(U64(), k1));
    c1 = p1;
    c3 = p0;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return {c0, c1, c2, c3};
}

HWY_INLINE void store_factors(V64 words, uint32_t threshold, float keep, float* out) {
  const auto w = hn::BitCast(U32(), words);
  const auto kept = hn::Eq(hn::Max(w, hn::Set(U32(), threshold)), w);
  hn::StoreU(hn::IfThenElseZero(hn::RebindMask(F32(), kept), splat(keep)), F32(), out);
}

HWY_ATTR void Factors(uint64_t key, int32_t position, int64_t channel, int64_t count, uint32_t threshold, float keep,
                      float* factors) {
  const U64 d;
  const auto blocks = static_cast<int64_t>(hn::Lanes(d));  // of four channels each
  const V64 low = hn::Set(d, 0xFFFFFFFFU);
  HWY_ALIGN float rest[4 * hn::MaxLanes(U64())];
  for (int64_t i = 0; i < count; i += 4 * blocks) {
    const V64 c1 = hn::Iota(d, static_cast<uint64_t>(channel + i) >> 2);
    const auto w = philox_lanes(key, hn::Set(d, static_cast<uint32_t>(position)), c1, hn::Zero(d), hn::Zero(d));
    // Words 0, 1 and words 2, 3 of each block side by side, then the blocks one after another.
    const V64 first = hn::Or(hn::And(w.w0, low), hn::ShiftLeft<32>(w.w1));
    const V64 second = hn::Or(hn::And(w.w2, low), hn::ShiftLeft<32>(w.w3));
    HWY_ALIGN uint64_t ordered[2 * hn::MaxLanes(U64())];
    hn::StoreInterleaved2(first, second, d, ordered);
    const bool whole = i + 4 * blocks <= count;
    float* out = whole ? factors + i : rest;
    store_factors(hn::Load(d, ordered), threshold, keep, out);
    store_factors(hn::Load(d, ordered + blocks), threshold, keep, out + 2 * blocks);
    if (!whole) std::copy(rest, rest + (count - i), factors + i);
  }
}

// Blocks of several narrow rows fill a vector, in the order of the multipliers in memory. Returns the rows it has done.
HWY_ATTR int64_t NarrowRows(uint64_t key, const int32_t* positions, int64_t rows, int64_t channel, int64_t count,
                            uint32_t threshold, float keep, float* factors) {
  const U64 d;
  const auto blocks = static_cast<int64_t>(hn::Lanes(d));
  if (count % 4 != 0 || count == 0 || count >= 4 * blocks || 4 * blocks % count != 0) return 0;
  const int64_t row_blocks = count / 4, together = blocks / row_blocks;
  HWY_ALIGN uint64_t place[hn::MaxLanes(U64())], block[hn::MaxLanes(U64())];
  for (int64_t i = 0; i < blocks; ++i) block[i] = static_cast<uint64_t>(channel / 4 + i % row_blocks);
  const V64 low = hn::Set(d, 0xFFFFFFFFU), c1 = hn::Load(d, block);
  int64_t r = 0;
  for (; r + together <= rows; r += together) {
    for (int64_t i = 0; i < blocks; ++i) place[i] = static_cast<uint32_t>(positions[r + i / row_blocks]);
    const auto w = philox_lanes(key, hn::Load(d, place), c1, hn::Zero(d), hn::Zero(d));
    const V64 first = hn::Or(hn::And(w.w0, low), hn::ShiftLeft<32>(w.w1));
    const V64 second = hn::Or(hn::And(w.w2, low), hn::ShiftLeft<32>(w.w3));
    HWY_ALIGN uint64_t ordered[2 * hn::MaxLanes(U64())];
    hn::StoreInterleaved2(first, second, d, ordered);
    store_factors(hn::Load(d, ordered), threshold, keep, factors + r * count);
    store_factors(hn::Load(d, ordered + blocks), threshold, keep, factors + r * count + 2 * blocks);
  }
  return r;
}

#endif  // HWY_SCALAR

HWY_ATTR void FactorRows(uint64_t key, const int32_t* positions, int64_t rows, int64_t channel, int64_t count,
                         uint32_t threshold, float keep, float* factors) {
  int64_t r = 0;
#if HWY_TARGET != HWY_SCALAR
  r = NarrowRows(key, positions, rows, channel, count, threshold, keep, factors);
#endif
  for (; r < rows; ++r) Factors(key, positions[r], channel, count, threshold, keep, factors + r * count);
}

HWY_ATTR void MultiplyRow(const float* x, const float* factors, int64_t n, bool add, float* y) {
  for_vectors(n, [&](int64_t i, auto io)
                     HWY_ATTR { accumulate(io, hn::Mul(io.load(x + i), io.load(factors + i)), add, y + i); });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(Factors);
HWY_EXPORT(FactorRows);
HWY_EXPORT(MultiplyRow);
}  // namespace

void dropout_factors_cpu(uint64_t key, int32_t position, int64_t channel, int64_t count, uint32_t threshold, float keep,
                         float* factors) {
  HWY_DYNAMIC_DISPATCH(Factors)(key, position, channel, count, threshold, keep, factors);
}

void dropout_factors_cpu(uint64_t key, const int32_t* positions, int64_t rows, int64_t channel, int64_t count,
                         uint32_t threshold, float keep, float* factors) {
  HWY_DYNAMIC_DISPATCH(FactorRows)(key, positions, rows, channel, count, threshold, keep, factors);
}

void dropout_rows_cpu(const DropoutDraw& draw, const float* x, int64_t x_stride, int64_t rows, int64_t cols, bool add,
                      float* y, int64_t y_stride) {
  parallel_for(rows, 8192 / (cols + 1) + 1, [&](int64_t begin, int64_t end) {
    DropoutRows factors(draw, cols);
    for (int64_t r = begin; r < end; ++r) {
      HWY_DYNAMIC_DISPATCH(MultiplyRow)(x + r * x_stride, factors.row(r), cols, add, y + r * y_stride);
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
