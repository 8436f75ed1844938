// SPDX-License-Identifier: Apache-2.0
// Vector loops of dense attention on a few rows of one head. Included once per Highway target.
#if defined(FARSIGHT_KERNELS_DENSE_ATTENTION_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FARSIGHT_KERNELS_DENSE_ATTENTION_TILES_INL_H_
#undef FARSIGHT_KERNELS_DENSE_ATTENTION_TILES_INL_H_
#else
#define FARSIGHT_KERNELS_DENSE_ATTENTION_TILES_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <hwy/highway.h>

#include "kernels/attention/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// Queries that share what is read of the keys.
constexpr int64_t kTogether = 4;

// A table [width][keys] of one head: a vector holds one coordinate of many keys. Keys are padded with zeros to whole
// vectors of every target, coordinates to multiples of four.
struct TileSize {
  int64_t keys, width;                // of the head
  int64_t padded_keys, padded_width;  // in memory
  TileSize(int64_t k, int64_t w) : keys(k), width(w), padded_keys((k + 15) / 16 * 16), padded_width((w + 3) / 4 * 4) {}
  int64_t table() const { return padded_keys * padded_width; }
};

// to[i] = scale * from[i], i < count; four lanes at a time.
HWY_INLINE void ScaleFew(const float* from, int64_t count, float scale, float* to) {
  const hn::CappedTag<float, 4> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, from + i), hn::Set(d, scale)), d, to + i);
  for (; i < count; ++i) to[i] = scale * from[i];
}

// table[d][j] = from[j][d], zeros around.
HWY_INLINE void TransposeIn(const float* from, int64_t stride, const TileSize& n, float* table) {
  const TileTag tag;
  HWY_ALIGN float packed[4 * 16];
  for (int64_t d = 0; d < n.width; d += 4) {
    const int64_t cols = std::min<int64_t>(4, n.width - d);
    for (int64_t j = 0; j < n.padded_keys; j += kLanes) {
      const int64_t rows = std::clamp<int64_t>(n.keys - j, 0, kLanes);
      if (rows < kLanes || cols < 4) std::fill_n(packed, 4 * kLanes, 0.0F);
      for (int64_t r = 0; r < rows; ++r) {
        const float* row = from + (j + r) * stride + d;
        cols == 4 ? ScaleFew(row, 4, 1.0F, packed + 4 * r) : ScaleFew(row, cols, 1.0F, packed + 4 * r);
      }
      TileVec v0, v1, v2, v3;
      hn::LoadInterleaved4(tag, packed, v0, v1, v2, v3);
      float* to = table + d * n.padded_keys + j;
      hn::StoreU(v0, tag, to);
      hn::StoreU(v1, tag, to + n.padded_keys);
      hn::StoreU(v2, tag, to + 2 * n.padded_keys);
      hn::StoreU(v3, tag, to + 3 * n.padded_keys);
    }
  }
}

// to[j][d] = table[d][j], or added to it.
HWY_INLINE void TransposeOut(const float* table, const TileSize& n, bool add, float* to, int64_t stride) {
  const TileTag tag;
  HWY_ALIGN float packed[4 * 16];
  for (int64_t d = 0; d < n.width; d += 4) {
    const int64_t cols = std::min<int64_t>(4, n.width - d);
    for (int64_t j = 0; j < n.keys; j += kLanes) {
      const float* from = table + d * n.padded_keys + j;
      hn::StoreInterleaved4(hn::LoadU(tag, from), hn::LoadU(tag, from + n.padded_keys),
                            hn::LoadU(tag, from + 2 * n.padded_keys), hn::LoadU(tag, from + 3 * n.padded_keys), tag,
                            packed);
      for (int64_t r = 0; r < std::min(kLanes, n.keys - j); ++r) {
        float* row = to + (j + r) * stride + d;
        for (int64_t c = 0; c < cols; ++c) row[c] = packed[4 * r + c] + (add ? row[c] : 0.0F);
      }
    }
  }
}

// The first `count` lanes, all for count >= kLanes.
HWY_INLINE TileVec load_part(const float* p, int64_t count) {
  const TileTag d;
  return count >= kLanes ? hn::LoadU(d, p) : hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, p);
}
HWY_INLINE void store_part(TileVec v, int64_t count, float* p) {
  const TileTag d;
  if (count >= kLanes) {
    hn::StoreU(v, d, p);
  } else {
    hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(count)), d, p);
  }
}
// v where there are keys, `other` behind them.
HWY_INLINE TileVec keep_part(TileVec v, int64_t count, TileVec other) {
  return count >= kLanes ? v : hn::IfThenElse(hn::FirstN(TileTag(), static_cast<size_t>(count)), v, other);
}

// Heads of the usual small sizes get loops of their own. body(size), 0 for all others.
template <class Body>
HWY_INLINE void with_width(int64_t width, const Body& body) {
  switch (width) {
    case 4:
      body(std::integral_constant<int, 4>());
      return;
    case 8:
      body(std::integral_constant<int, 8>());
      return;
    default:
      body(std::integral_constant<int, 0>());
  }
}

// to[r][j] = sum_d rows[r][d] table[d][j] (+ start[r][j], rows `keys` apart), kRows rows.
template <int kRows, int kWidth>
HWY_INLINE void ScoreRows(const float* rows, const float* table, const TileSize& n, const float* start, float* to) {
  const TileTag tag;
  const int64_t cols = kWidth > 0 ? kWidth : n.width;
  const int64_t next = kWidth > 0 ? kWidth : n.padded_width;
  for (int64_t j = 0; j < n.padded_keys; j += kLanes) {
    TileVec sums[kRows];
    for (int r = 0; r < kRows; ++r) {
      sums[r] = start != nullptr && j < n.keys ? load_part(start + r * n.keys + j, n.keys - j) : hn::Zero(tag);
    }
    for (int64_t d = 0; d < cols; ++d) {
      const auto line = hn::LoadU(tag, table + d * n.padded_keys + j);
      for (int r = 0; r < kRows; ++r) sums[r] = hn::MulAdd(splat(rows[r * next + d]), line, sums[r]);
    }
    for (int r = 0; r < kRows; ++r) hn::StoreU(sums[r], tag, to + r * n.padded_keys + j);
  }
}

HWY_INLINE void ScoreGroup(int64_t count, const float* rows, const float* table, const TileSize& n, const float* start,
                           float* to) {
  if (count == kTogether) {
    with_width(n.width, [&](auto width) HWY_ATTR { ScoreRows<kTogether, width.value>(rows, table, n, start, to); });
    return;
  }
  for (int64_t r = 0; r < count; ++r) {
    ScoreRows<1, 0>(rows + r * n.padded_width, table, n, start == nullptr ? nullptr : start + r * n.keys,
                    to + r * n.padded_keys);
  }
}

#if HWY_TARGET != HWY_SCALAR
// Neighbouring lanes of both arguments joined: those of `low` first.
template <class Op>
HWY_INLINE TileVec JoinLanes(const Op& op, TileVec low, TileVec high) {
  const TileTag tag;
  return op(hn::ConcatEven(tag, high, low), hn::ConcatOdd(tag, high, low));
}

// Sums of the lanes of kCount = kLanes vectors, in their order.
template <int kCount>
HWY_INLINE TileVec FoldLanes(const TileVec* v) {
  if constexpr (kCount == 1) {
    return v[0];
  } else {
    return JoinLanes([](auto a, auto b) HWY_ATTR { return hn::Add(a, b); }, FoldLanes<kCount / 2>(v),
                     FoldLanes<kCount / 2>(v + kCount / 2));
  }
}
#endif

// to[r] = all lanes of v[r] joined by op, kRows of one or four; `to` has room for a vector.
template <int kRows, class Op>
HWY_INLINE void FoldRows(const Op& op, const TileVec* v, float* to) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kRows == 4 && kLanes >= 4) {
    auto all = JoinLanes(op, JoinLanes(op, v[0], v[1]), JoinLanes(op, v[2], v[3]));
    for (int64_t each = kLanes / 4; each > 1; each /= 2) all = JoinLanes(op, all, all);
    hn::StoreU(all, TileTag(), to);
    return;
  }
#endif
  HWY_ALIGN float lanes[kLanes];
  for (int r = 0; r < kRows; ++r) {
    hn::Store(v[r], TileTag(), lanes);
    auto all = hn::Set(hn::CappedTag<float, 1>(), lanes[0]);
    for (int64_t i = 1; i < kLanes; ++i) all = op(all, hn::Set(hn::CappedTag<float, 1>(), lanes[i]));
    to[r] = hn::GetLane(all);
  }
}

struct AddLanes {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Add(a, b);
  }
};
struct MaxLanesOf {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Max(a, b);
  }
};

// Scores of kRows rows into e^(s - largest), zeros in the padding; statistics[r]: largest and 1 / sum.
template <int kRows>
HWY_INLINE void Exponentiate(float* rows, const TileSize& n, float* statistics) {
  const TileTag tag;
  const auto low = splat(-1e30F);
  TileVec v[kRows];
  for (auto& m : v) m = low;
  for (int64_t j = 0; j < n.keys; j += kLanes) {
    for (int r = 0; r < kRows; ++r) {
      v[r] = hn::Max(v[r], keep_part(hn::LoadU(tag, rows + r * n.padded_keys + j), n.keys - j, low));
    }
  }
  float largest[16], sums[16];
  FoldRows<kRows>(MaxLanesOf(), v, largest);
  for (auto& sum : v) sum = hn::Zero(tag);
  for (int64_t j = 0; j < n.padded_keys; j += kLanes) {
    for (int r = 0; r < kRows; ++r) {
      float* at = rows + r * n.padded_keys + j;
      const auto e = keep_part(tile_exp(hn::Sub(hn::LoadU(tag, at), splat(largest[r]))),
                               std::max<int64_t>(0, n.keys - j), hn::Zero(tag));
      v[r] = hn::Add(v[r], e);
      hn::StoreU(e, tag, at);
    }
  }
  FoldRows<kRows>(AddLanes(), v, sums);
  for (int r = 0; r < kRows; ++r) {
    statistics[2 * r] = largest[r];
    statistics[2 * r + 1] = 1.0F / sums[r];
  }
}

HWY_INLINE TileVec RowProduct(const float* row, const float* line, int64_t keys) {
  const TileTag tag;
  auto sum = hn::Zero(tag);
  for (int64_t j = 0; j < keys; j += kLanes) {
    sum = hn::MulAdd(hn::LoadU(tag, row + j), hn::LoadU(tag, line + j), sum);
  }
  return sum;
}

#if HWY_TARGET != HWY_SCALAR
// RowProducts of as many rows as fill a vector; kWidth divides kLanes.
template <int kWidth>
HWY_INLINE void FullProducts(const float* rows, const float* table, const TileSize& n, float* products) {
  const TileTag tag;
  TileVec sums[kLanes];
  for (auto& sum : sums) sum = hn::Zero(tag);
  for (int64_t j = 0; j < n.padded_keys; j += kLanes) {
    TileVec lines[kWidth];
    for (int d = 0; d < kWidth; ++d) lines[d] = hn::LoadU(tag, table + d * n.padded_keys + j);
    for (int r = 0; r < kLanes / kWidth; ++r) {
      const auto row = hn::LoadU(tag, rows + r * n.padded_keys + j);
      for (int d = 0; d < kWidth; ++d) sums[r * kWidth + d] = hn::MulAdd(row, lines[d], sums[r * kWidth + d]);
    }
  }
  hn::StoreU(FoldLanes<kLanes>(sums), tag, products);
}
#endif

template <int kWidth>
HWY_INLINE void RowProductsOf(int64_t count, const float* rows, const float* table, const TileSize& n,
                              float* products) {
  int64_t r = 0, d = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kWidth > 0 && kLanes % (kWidth > 0 ? kWidth : 1) == 0) {
    constexpr int64_t kStep = kLanes / kWidth;
    for (; r + kStep <= count; r += kStep) {
      FullProducts<kWidth>(rows + r * n.padded_keys, table, n, products + r * kWidth);
    }
  }
#endif
  for (int64_t at = r * n.width; at < count * n.width; at += kLanes) {
    TileVec sums[kLanes];
    for (auto& sum : sums) {
      sum = r < count ? RowProduct(rows + r * n.padded_keys, table + d * n.padded_keys, n.padded_keys)
                      : hn::Zero(TileTag());
      if (++d == n.width) d = 0, ++r;
    }
#if HWY_TARGET == HWY_SCALAR
    hn::StoreU(sums[0], TileTag(), products + at);
#else
    hn::StoreU(FoldLanes<kLanes>(sums), TileTag(), products + at);
#endif
  }
}

// products[r * width + d] = sum_j rows[r][j] table[d][j]; writes up to a vector behind them.
HWY_INLINE void RowProducts(int64_t count, const float* rows, const float* table, const TileSize& n, float* products) {
  with_width(n.width, [&](auto width) HWY_ATTR { RowProductsOf<width.value>(count, rows, table, n, products); });
}

// Of kRows rows: weights from scores (rows score_stride apart, may be the weights), zeros in the padding; and
// gradients: dP on entry, dS = P (dP - sum P dP) + dscores on return, also put into dprevious (rows `keys` apart).
template <int kRows>
HWY_INLINE void ScoreGradients(const float* scores, int64_t score_stride, const float* statistics, const TileSize& n,
                               const float* dscores, bool add, float* dprevious, float* weights, float* gradients) {
  const TileTag tag;
  TileVec sums[kRows];
  for (auto& sum : sums) sum = hn::Zero(tag);
  for (int64_t j = 0; j < n.keys; j += kLanes) {
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = r * n.padded_keys + j;
      const auto s = hn::Sub(load_part(scores + r * score_stride + j, n.keys - j), splat(statistics[2 * r]));
      const auto p = keep_part(hn::Mul(tile_exp(s), splat(statistics[2 * r + 1])), n.keys - j, hn::Zero(tag));
      sums[r] = hn::MulAdd(p, hn::LoadU(tag, gradients + at), sums[r]);
      hn::StoreU(p, tag, weights + at);
    }
  }
  float means[16];
  FoldRows<kRows>(AddLanes(), sums, means);
  for (int64_t j = 0; j < n.keys; j += kLanes) {
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = r * n.padded_keys + j, pair = r * n.keys + j;
      auto d = hn::Mul(hn::LoadU(tag, weights + at), hn::Sub(hn::LoadU(tag, gradients + at), splat(means[r])));
      if (dscores != nullptr) d = hn::Add(d, load_part(dscores + pair, n.keys - j));
      hn::StoreU(d, tag, gradients + at);
      if (dprevious == nullptr) continue;
      store_part(add ? hn::Add(d, load_part(dprevious + pair, n.keys - j)) : d, n.keys - j, dprevious + pair);
    }
  }
}

// dk[d][j] += sum_i gradients[i][j] q[i][d], dv[d][j] += sum_i weights[i][j] dout[i][d], four coordinates at a time.
HWY_INLINE void AccumulateKeys(const float* gradients, const float* weights, const float* q, const float* dout,
                               int64_t rows, const TileSize& n, float* dk, float* dv) {
  const TileTag tag;
  for (int64_t j = 0; j < n.keys; j += kLanes) {
    for (int64_t d = 0; d < n.padded_width; d += 4) {
      TileVec k[4], v[4];
      for (int c = 0; c < 4; ++c) {
        k[c] = hn::LoadU(tag, dk + (d + c) * n.padded_keys + j);
        v[c] = hn::LoadU(tag, dv + (d + c) * n.padded_keys + j);
      }
      for (int64_t i = 0; i < rows; ++i) {
        const auto g = hn::LoadU(tag, gradients + i * n.padded_keys + j);
        const auto w = hn::LoadU(tag, weights + i * n.padded_keys + j);
        for (int c = 0; c < 4; ++c) {
          k[c] = hn::MulAdd(splat(q[i * n.padded_width + d + c]), g, k[c]);
          v[c] = hn::MulAdd(splat(dout[i * n.padded_width + d + c]), w, v[c]);
        }
      }
      for (int c = 0; c < 4; ++c) {
        hn::StoreU(k[c], tag, dk + (d + c) * n.padded_keys + j);
        hn::StoreU(v[c], tag, dv + (d + c) * n.padded_keys + j);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#endif  // per target
