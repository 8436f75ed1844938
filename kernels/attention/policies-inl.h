// SPDX-License-Identifier: Apache-2.0
// The policies of one row of a tile: ALiBi bias, mask, dropout multipliers. Positions and documents come as arrays, so
// any order of keys is served. Included once per Highway target.
#if defined(FARSIGHT_KERNELS_ATTENTION_POLICIES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FARSIGHT_KERNELS_ATTENTION_POLICIES_INL_H_
#undef FARSIGHT_KERNELS_ATTENTION_POLICIES_INL_H_
#else
#define FARSIGHT_KERNELS_ATTENTION_POLICIES_INL_H_
#endif

#include <cstdint>

#include "kernels/attention/tile_job.h"
#include "kernels/attention/vector_math-inl.h"
#include "kernels/random.h"

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

using TileWords = hn::RebindToUnsigned<TileTag>;

// Row arrays start at column `first` of the tile and have n columns, a multiple of the vector length.
struct TileRow {
  int32_t position, document;
  const int32_t *key_positions, *key_documents;
  int64_t n;
  int64_t valid;  // columns below this are keys, the others padding
};

HWY_INLINE void alibi_row(const TileRow& row, float slope, float* s) {
  const TileTag d;
  const TileInts di;
  const auto position = hn::Set(di, row.position);
  for (int64_t j = 0; j < row.n; j += kLanes) {
    const auto distance = hn::Abs(hn::Sub(position, hn::LoadU(di, row.key_positions + j)));
    hn::StoreU(hn::NegMulAdd(splat(slope), hn::ConvertTo(d, distance), hn::LoadU(d, s + j)), d, s + j);
  }
}

HWY_INLINE void mask_row(const TileRow& row, const MaskRule& rule, float* s) {
  const TileTag d;
  const TileInts di;
  const auto position = hn::Set(di, row.position);
  const auto document = hn::Set(di, row.document);
  const auto valid = hn::Set(di, static_cast<int32_t>(row.valid));
  for (int64_t j = 0; j < row.n; j += kLanes) {
    const auto delta = hn::Sub(position, hn::LoadU(di, row.key_positions + j));
    auto hidden = hn::Or(hn::Lt(delta, hn::Set(di, rule.low)), hn::Gt(delta, hn::Set(di, rule.high)));
    hidden = hn::Or(hidden, hn::Not(hn::Lt(hn::Iota(di, static_cast<int32_t>(j)), valid)));
    if (rule.documents) hidden = hn::Or(hidden, hn::Ne(document, hn::LoadU(di, row.key_documents + j)));
    hn::StoreU(hn::IfThenElse(hn::RebindMask(d, hidden), splat(kMaskedScore), hn::LoadU(d, s + j)), d, s + j);
  }
}

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void philox_words(uint64_t key, uint32_t position, uint32_t head, const int32_t* quads, int64_t count,
                             uint32_t* words) {
  for (int64_t n = 0; n < count; ++n) {
    const auto block = philox(key, {position, static_cast<uint32_t>(quads[n]), head, 0});
    for (size_t w = 0; w < 4; ++w) words[static_cast<size_t>(n) * 4 + w] = block[w];
  }
}
#else
// One 64-bit lane per counter. The upper halves of c1 and c3 hold leftovers of the products; only lower halves enter
// the next products, so they need not be cleared until the end.
HWY_INLINE void philox_words(uint64_t key, uint32_t position, uint32_t head, const int32_t* quads, int64_t count,
                             uint32_t* words) {
  const hn::CappedTag<uint64_t, 8> d64;
  const hn::Repartition<uint32_t, decltype(d64)> d32;
  const hn::Rebind<int32_t, decltype(d64)> dquad;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d64));
  const auto low = hn::Set(d64, 0xFFFFFFFFU);
  const auto m0 = hn::Set(d32, 0xD2511F53U), m1 = hn::Set(d32, 0xCD9E8D57U);
  for (int64_t n = 0; n < count; n += lanes) {
    auto c0 = hn::Set(d64, uint64_t{position}), c2 = hn::Set(d64, uint64_t{head}), c3 = hn::Zero(d64);
    const hn::Rebind<uint32_t, decltype(d64)> dword;
    auto c1 = hn::PromoteTo(d64, hn::BitCast(dword, hn::LoadU(dquad, quads + n)));
    auto k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      const auto p0 = hn::MulEven(hn::BitCast(d32, c0), m0);
      const auto p1 = hn::MulEven(hn::BitCast(d32, c2), m1);
      c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c1), hn::Set(d64, uint64_t{k0}));
      c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c3), hn::Set(d64, uint64_t{k1}));
      c1 = p1;
      c3 = p0;
      k0 += 0x9E3779B9U;
      k1 += 0xBB67AE85U;
    }
    const auto first = hn::Or(hn::And(c0, low), hn::ShiftLeft<32>(c1));
    const auto second = hn::Or(hn::And(c2, low), hn::ShiftLeft<32>(c3));
    hn::StoreInterleaved2(first, second, d64, reinterpret_cast<uint64_t*>(words + 4 * n));
  }
}
#endif

struct DropoutRow {
  uint64_t key;
  uint32_t head;
  const int32_t *quads, *index;
  int64_t quad_count;
  uint32_t threshold;
  float factor;
};

// Of (sample b, head h) and the columns of a tile from `first` on.
HWY_INLINE DropoutRow dropout_of(const TileJob& job, int64_t b, int64_t h, int64_t tile, int64_t first) {
  return {job.queries.dropout_keys[b],
          static_cast<uint32_t>(job.queries.first_head + h),
          job.tile_index.quads(b, tile),
          job.tile_index.index(b, tile) + first,
          job.tile_index.quad_count(b, tile),
          job.keep_threshold,
          job.keep_factor};
}

// Weight multipliers of the row: factor where the key is kept, else 0. `words` holds 4 words per quad, rounded up to 8
// quads.
HWY_INLINE void dropout_row(const TileRow& row, const DropoutRow& dropout, uint32_t* words, float* w) {
  const TileTag d;
  const TileInts di;
  const TileWords dw;
  philox_words(dropout.key, static_cast<uint32_t>(row.position), dropout.head, dropout.quads, dropout.quad_count,
               words);
  const auto threshold = hn::Set(dw, dropout.threshold);
  for (int64_t j = 0; j < row.n; j += kLanes) {
    const auto word = hn::GatherIndex(dw, words, hn::LoadU(di, dropout.index + j));
    const auto dropped = hn::Lt(word, threshold);
    hn::StoreU(hn::IfThenZeroElse(hn::RebindMask(d, dropped), splat(dropout.factor)), d, w + j);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#endif  // per target
