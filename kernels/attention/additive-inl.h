// SPDX-License-Identifier: Apache-2.0
// Additive scores s = sum_c y_c tanh(a_c + b_c) without tanh in the tile: with EA = e^2a, EB = e^2b and
// r = 1 / (1 + EA EB), tanh(a + b) = 1 - 2r and its derivative is 4 r (1 - r). a and b are clamped to +-40, the product
// to 1e37: there r is 0 to within fp32. Included once per Highway target.
#if defined(FARSIGHT_KERNELS_ATTENTION_ADDITIVE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FARSIGHT_KERNELS_ATTENTION_ADDITIVE_INL_H_
#undef FARSIGHT_KERNELS_ATTENTION_ADDITIVE_INL_H_
#else
#define FARSIGHT_KERNELS_ATTENTION_ADDITIVE_INL_H_
#endif

#include <cstdint>
#include <utility>

#include "kernels/attention/product-inl.h"
#include "kernels/attention/tile_job.h"

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

constexpr int kAdditiveRows = kMaxVectors == 4 ? 4 : 2;

// x = e^(2x) for n values, n rounded up to whole vectors (the storage is padded).
HWY_INLINE void exp_twice(float* x, int64_t n) {
  const TileTag d;
  for (int64_t i = 0; i < n; i += kLanes) {
    const auto clamped = hn::Min(hn::Max(hn::Load(d, x + i), splat(-40.0F)), splat(40.0F));
    hn::Store(tile_exp(hn::Add(clamped, clamped)), d, x + i);
  }
}

HWY_INLINE TileVec additive_r(TileVec ea, TileVec eb) {
  return tile_reciprocal(hn::Min(hn::MulAdd(ea, eb, splat(1.0F)), splat(1e37F)));
}

// acc -= 2 y_c r for one row of the tile.
template <size_t... V>
HWY_INLINE void additive_row(TileVec ea, TileVec y2, const TileVec* eb, TileVec* acc, std::index_sequence<V...>) {
  ((acc[V] = hn::NegMulAdd(y2, additive_r(ea, eb[V]), acc[V])), ...);
}

template <size_t... R>
HWY_INLINE void additive_micro(int64_t width, const float* ea, const float* eb, const float* y2, float y_sum, float* s,
                               int64_t lds, std::index_sequence<R...>) {
  const TileTag d;
  constexpr auto kVectors = std::make_index_sequence<kScorePiece>();
  TileVec acc[sizeof...(R)][kScorePiece];
  for (auto& row : acc) {
    for (auto& v : row) v = splat(y_sum);
  }
  for (int64_t c = 0; c < width; ++c) {
    TileVec vb[kScorePiece];
    for (int v = 0; v < kScorePiece; ++v) vb[v] = hn::Load(d, eb + (c * kScorePiece + v) * kLanes);
    const auto y = splat(y2[c]);
    (additive_row(splat(ea[static_cast<int64_t>(R) * width + c]), y, vb, acc[R], kVectors), ...);
  }
  (store_row<false>(acc[R], s + static_cast<int64_t>(R) * lds, kVectors), ...);
}

// Scores of columns [first, last): ea [rows][width] row-major, eb the transposed pieces of the tile, y2 = 2 y.
HWY_INLINE void additive_scores(int64_t rows, int64_t width, const float* ea, const float* eb,
                                const TileColumns& columns, const float* y2, float y_sum, float* s, int64_t lds) {
  for (int64_t c = columns.first; c < columns.last; c += kScorePiece * kLanes) {
    for (int64_t i = 0; i < rows; i += kAdditiveRows) {
      additive_micro(width, ea + i * width, eb + c * width, y2, y_sum, s + i * lds + c, lds,
                     std::make_index_sequence<kAdditiveRows>());
    }
  }
}

// Scores of one tile for either kind of score; q and the packed keys are in the form of that kind.
HWY_INLINE void score_tile(const TileJob& job, int64_t rows, const TileColumns& columns, const float* q,
                           const float* packed, const float* y2, float y_sum, float* s) {
  const int64_t width = job.queries.width;
  if (job.spec.score == AttentionScore::additive) {
    additive_scores(rows, width, q, packed, columns, y2, y_sum, s, job.tile_keys);
    return;
  }
  for (int64_t c = columns.first; c < columns.last; c += kScorePiece * kLanes) {
    score_product(rows, width, q, packed + c * width, s + c, job.tile_keys);
  }
}

// One vector of channels of one row of queries against one key, with g = dE: x = g r (1 - r), where 1 - r = e r keeps
// its relative accuracy when tanh saturates.
struct AdditiveSums {
  TileVec da, dy;
};
HWY_INLINE TileVec additive_pair(TileVec ea, TileVec eb, float ds, AdditiveSums& sums) {
  const auto g = splat(ds);
  const auto e = hn::Min(hn::Mul(ea, eb), splat(1e37F));
  const auto r = tile_reciprocal(hn::Add(e, splat(1.0F)));
  const auto t = hn::Mul(g, r);
  const auto x = hn::Mul(t, hn::Mul(e, r));
  sums.da = hn::Add(sums.da, x);
  sums.dy = hn::Add(sums.dy, hn::Sub(g, hn::Add(t, t)));
  return x;
}

template <size_t... R>
HWY_INLINE void additive_backward_micro(const TileColumns& keys, int64_t width, const float* ea, const float* eb,
                                        const float* ds, int64_t lds, float* da, float* db, float* dy,
                                        std::index_sequence<R...>) {
  const TileTag d;
  const TileVec va[] = {hn::Load(d, ea + static_cast<int64_t>(R) * width)...};
  AdditiveSums sums[sizeof...(R)];
  for (auto& row : sums) row = {hn::Zero(d), hn::Zero(d)};
  for (int64_t j = keys.first; j < keys.last; ++j) {
    const auto vb = hn::Load(d, eb + j * width);
    auto x = hn::Load(d, db + j * width);
    ((x = hn::Add(x, additive_pair(va[R], vb, ds[static_cast<int64_t>(R) * lds + j], sums[R]))), ...);
    hn::Store(x, d, db + j * width);
  }
  (hn::Store(sums[R].da, d, da + static_cast<int64_t>(R) * width), ...);
  auto total = hn::Load(d, dy);
  ((total = hn::Add(total, sums[R].dy)), ...);
  hn::Store(total, d, dy);
}

// da [rows][width] is set, db [keys][width] and dy [width] are added to; width is padded to whole vectors. da and db
// still lack the factor 4 y_c. Rows are taken in groups of kAdditiveRows: ds of the rows that pad a group must be 0.
HWY_INLINE void additive_backward(int64_t rows, const TileColumns& keys, int64_t width, const float* ea,
                                  const float* eb, const float* ds, int64_t lds, float* da, float* db, float* dy) {
  for (int64_t c = 0; c < width; c += kLanes) {
    for (int64_t i = 0; i < rows; i += kAdditiveRows) {
      additive_backward_micro(keys, width, ea + i * width + c, eb + c, ds + i * lds, lds, da + i * width + c, db + c,
                              dy + c, std::make_index_sequence<kAdditiveRows>());
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#endif  // per target
