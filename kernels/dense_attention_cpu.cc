// SPDX-License-Identifier: Apache-2.0
#include "kernels/dense_attention_cpu.h"

#include <algorithm>
#include <vector>

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dense_attention_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/attention/vector_math-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// Queries that share what is read of the keys; queries whose weights and gradients wait for the keys' gradients.
constexpr int64_t kTogether = 4, kBlock = 64;
constexpr int64_t kPadding = 16;  // keys are padded to whole vectors of every target

HWY_INLINE int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// What one thread works in. Keys and values lie transposed, [D][padded keys], so that a vector holds one coordinate of
// many keys; rows of queries hold their D coordinates, padded with zeros to multiples of four.
struct Scratch {
  int64_t keys, width;  // padded
  float *k, *v, *dk, *dv;
  float *q, *dout;             // [kBlock][width]
  float *weights, *gradients;  // [kBlock][keys]
  float* products;             // [kTogether * width], and a vector
  static int64_t floats(int64_t keys, int64_t width) {
    return 4 * width * keys + 2 * kBlock * width + 2 * kBlock * keys + kTogether * width + kPadding;
  }
  Scratch(const DenseAttentionRows& a, float* memory)
      : keys(padded(a.keys, kPadding)), width(padded(a.width, 4)), k(memory) {
    v = k + width * keys;
    dk = v + width * keys;
    dv = dk + width * keys;
    q = dv + width * keys;
    dout = q + kBlock * width;
    weights = dout + kBlock * width;
    gradients = weights + kBlock * keys;
    products = gradients + kBlock * keys;
  }
};

// to[d][j] = from[j][d], zeros around.
HWY_ATTR void TransposeIn(const float* from, int64_t stride, int64_t rows, int64_t cols, const Scratch& s, float* to) {
  std::fill_n(to, s.width * s.keys, 0.0F);
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t d = 0; d < cols; ++d) to[d * s.keys + j] = from[j * stride + d];
  }
}

HWY_ATTR void TransposeOut(const float* from, int64_t rows, int64_t cols, const Scratch& s, bool add, float* to,
                           int64_t stride) {
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t d = 0; d < cols; ++d) to[j * stride + d] = from[d * s.keys + j] + (add ? to[j * stride + d] : 0.0F);
  }
}

HWY_ATTR void ScaleIn(const float* from, int64_t stride, int64_t rows, int64_t cols, float scale, int64_t width,
                      float* to) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < cols; ++d) to[i * width + d] = scale * from[i * stride + d];
    for (int64_t d = cols; d < width; ++d) to[i * width + d] = 0.0F;
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

// to[r][j] = sum_d rows[r][d] table[d][j] (+ start[r][j], rows `start_stride` apart), kRows rows.
template <int kRows>
HWY_INLINE void ScoreRows(const float* rows, const float* table, const Scratch& s, int64_t cols, const float* start,
                          int64_t start_stride, float* to) {
  const TileTag tag;
  for (int64_t j = 0; j < s.keys; j += kLanes) {
    auto a0 = hn::Zero(tag), a1 = a0, a2 = a0, a3 = a0;
    if (start != nullptr && j < start_stride) {
      const int64_t left = start_stride - j;
      a0 = load_part(start + j, left);
      if constexpr (kRows > 1) a1 = load_part(start + start_stride + j, left);
      if constexpr (kRows > 2) a2 = load_part(start + 2 * start_stride + j, left);
      if constexpr (kRows > 3) a3 = load_part(start + 3 * start_stride + j, left);
    }
    for (int64_t d = 0; d < cols; ++d) {
      const auto t = hn::LoadU(tag, table + d * s.keys + j);
      a0 = hn::MulAdd(splat(rows[d]), t, a0);
      if constexpr (kRows > 1) a1 = hn::MulAdd(splat(rows[s.width + d]), t, a1);
      if constexpr (kRows > 2) a2 = hn::MulAdd(splat(rows[2 * s.width + d]), t, a2);
      if constexpr (kRows > 3) a3 = hn::MulAdd(splat(rows[3 * s.width + d]), t, a3);
    }
    hn::StoreU(a0, tag, to + j);
    if constexpr (kRows > 1) hn::StoreU(a1, tag, to + s.keys + j);
    if constexpr (kRows > 2) hn::StoreU(a2, tag, to + 2 * s.keys + j);
    if constexpr (kRows > 3) hn::StoreU(a3, tag, to + 3 * s.keys + j);
  }
}

HWY_INLINE void ScoreGroup(int64_t count, const float* rows, const float* table, const Scratch& s, int64_t cols,
                           const float* start, int64_t start_stride, float* to) {
  if (count == kTogether) {
    ScoreRows<kTogether>(rows, table, s, cols, start, start_stride, to);
    return;
  }
  for (int64_t r = 0; r < count; ++r) {
    ScoreRows<1>(rows + r * s.width, table, s, cols, start == nullptr ? nullptr : start + r * start_stride,
                 start_stride, to + r * s.keys);
  }
}

// Scores of one row into e^(s - largest), zeros in the padding; {largest, 1 / sum}.
struct RowStatistics {
  float largest, reciprocal;
};
HWY_INLINE RowStatistics Exponentiate(float* row, int64_t keys, int64_t all) {
  const TileTag tag;
  const auto low = splat(-1e30F);
  auto m = low;
  for (int64_t j = 0; j < keys; j += kLanes) {
    auto v = hn::LoadU(tag, row + j);
    if (j + kLanes > keys) {
      v = hn::IfThenElse(hn::FirstN(tag, static_cast<size_t>(keys - j)), v, low);
      hn::StoreU(v, tag, row + j);
    }
    m = hn::Max(m, v);
  }
  const float largest = max_lanes(m);
  const auto shift = splat(largest);
  auto sum = hn::Zero(tag);
  for (int64_t j = 0; j < all; j += kLanes) {
    if (j >= keys) {
      hn::StoreU(hn::Zero(tag), tag, row + j);
      continue;
    }
    const auto e = tile_exp(hn::Sub(hn::LoadU(tag, row + j), shift));
    sum = hn::Add(sum, e);
    hn::StoreU(e, tag, row + j);
  }
  return {largest, 1.0F / sum_lanes(sum)};
}

#if HWY_TARGET != HWY_SCALAR
// Sums of the lanes of n = kLanes vectors, in their order: neighbours are added level by level.
template <int kCount>
HWY_INLINE TileVec FoldLanes(const TileVec* v) {
  if constexpr (kCount == 1) {
    return v[0];
  } else {
    const TileTag tag;
    const auto low = FoldLanes<kCount / 2>(v), high = FoldLanes<kCount / 2>(v + kCount / 2);
    return hn::Add(hn::ConcatEven(tag, high, low), hn::ConcatOdd(tag, high, low));
  }
}
#endif

HWY_INLINE TileVec RowProduct(const float* row, const float* line, int64_t keys) {
  const TileTag tag;
  auto sum = hn::Zero(tag);
  for (int64_t j = 0; j < keys; j += kLanes) {
    sum = hn::MulAdd(hn::LoadU(tag, row + j), hn::LoadU(tag, line + j), sum);
  }
  return sum;
}

// s.products[r * cols + d] = sum_j rows[r][j] table[d][j]
HWY_INLINE void RowProducts(int64_t count, const float* rows, const float* table, int64_t cols, const Scratch& s) {
  int64_t r = 0, d = 0;
  for (int64_t at = 0; at < count * cols; at += kLanes) {
#if HWY_TARGET == HWY_SCALAR
    hn::StoreU(RowProduct(rows + r * s.keys, table + d * s.keys, s.keys), TileTag(), s.products + at);
    if (++d == cols) d = 0, ++r;
#else
    TileVec sums[kLanes];
    for (auto& sum : sums) {
      sum = r < count ? RowProduct(rows + r * s.keys, table + d * s.keys, s.keys) : hn::Zero(TileTag());
      if (++d == cols) d = 0, ++r;
    }
    hn::StoreU(FoldLanes<kLanes>(sums), TileTag(), s.products + at);
#endif
  }
}

// One head of one sample.
struct Head {
  int64_t sample, head, index;  // index among the heads of all samples
  Head(const DenseAttentionRows& a, int64_t i) : sample(i / a.heads), head(i % a.heads), index(i) {}
  template <class T>
  T* tokens(T* base, int64_t stride, int64_t tokens_per_sample, int64_t width) const {
    return base + sample * tokens_per_sample * stride + head * width;
  }
};

HWY_ATTR void ForwardHead(const DenseAttentionRows& a, int64_t index, float* scores, float* statistics, float* out,
                          float* memory) {
  const Scratch s(a, memory);
  const Head h(a, index);
  const int64_t row = a.heads * a.width;
  TransposeIn(h.tokens(a.k, a.k_stride, a.keys, a.width), a.k_stride, a.keys, a.width, s, s.k);
  TransposeIn(h.tokens(a.v, a.v_stride, a.keys, a.width), a.v_stride, a.keys, a.width, s, s.v);
  const float* q = h.tokens(a.q, a.q_stride, a.queries, a.width);
  float* o = h.tokens(out, row, a.queries, a.width);
  for (int64_t i = 0; i < a.queries; i += kTogether) {
    const int64_t count = std::min(kTogether, a.queries - i), first = h.index * a.queries + i;
    ScaleIn(q + i * a.q_stride, a.q_stride, count, a.width, a.scale, s.width, s.q);
    ScoreGroup(count, s.q, s.k, s, a.width, a.previous == nullptr ? nullptr : a.previous + first * a.keys, a.keys,
               s.weights);
    float reciprocal[kTogether];
    for (int64_t r = 0; r < count; ++r) {
      float* w = s.weights + r * s.keys;
      for (int64_t j = 0; scores != nullptr && j < a.keys; j += kLanes) {
        store_part(hn::LoadU(TileTag(), w + j), a.keys - j, scores + (first + r) * a.keys + j);
      }
      const RowStatistics row_statistics = Exponentiate(w, a.keys, s.keys);
      statistics[2 * (first + r)] = row_statistics.largest;
      statistics[2 * (first + r) + 1] = reciprocal[r] = row_statistics.reciprocal;
    }
    RowProducts(count, s.weights, s.v, a.width, s);
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t d = 0; d < a.width; ++d) o[(i + r) * row + d] = s.products[r * a.width + d] * reciprocal[r];
    }
  }
}

// The weights of one row from its scores, in place; zeros in the padding.
HWY_INLINE void WeightsAgain(float* row, const float* statistics, int64_t keys, int64_t all) {
  const TileTag tag;
  const auto shift = splat(statistics[0]), factor = splat(statistics[1]);
  for (int64_t j = 0; j < all; j += kLanes) {
    auto p = hn::Zero(tag);
    if (j < keys) p = hn::Mul(tile_exp(hn::Sub(hn::LoadU(tag, row + j), shift)), factor);
    if (j + kLanes > keys && j < keys) p = hn::IfThenElseZero(hn::FirstN(tag, static_cast<size_t>(keys - j)), p);
    hn::StoreU(p, tag, row + j);
  }
}

// gradients: dP on entry, dS = P (dP - sum P dP) + dscores on return, also put into dprevious.
HWY_INLINE void ScoreGradients(const float* weights, float* gradients, const Scratch& s, int64_t keys,
                               const float* dscores, bool add, float* dprevious) {
  const TileTag tag;
  const auto mean = splat(sum_lanes(RowProduct(weights, gradients, s.keys)));
  for (int64_t j = 0; j < keys; j += kLanes) {
    auto d = hn::Mul(hn::LoadU(tag, weights + j), hn::Sub(hn::LoadU(tag, gradients + j), mean));
    if (dscores != nullptr) d = hn::Add(d, load_part(dscores + j, keys - j));
    hn::StoreU(d, tag, gradients + j);
    if (dprevious == nullptr) continue;
    store_part(add ? hn::Add(d, load_part(dprevious + j, keys - j)) : d, keys - j, dprevious + j);
  }
}

// dk[d][j] += sum_i gradients[i][j] q[i][d], dv[d][j] += sum_i weights[i][j] dout[i][d]
HWY_INLINE void AccumulateKeys(const Scratch& s, int64_t rows) {
  const TileTag tag;
  for (int64_t j = 0; j < s.keys; j += kLanes) {
    for (int64_t d = 0; d < s.width; d += 4) {
      float *dk = s.dk + d * s.keys + j, *dv = s.dv + d * s.keys + j;
      auto k0 = hn::LoadU(tag, dk), k1 = hn::LoadU(tag, dk + s.keys), k2 = hn::LoadU(tag, dk + 2 * s.keys),
           k3 = hn::LoadU(tag, dk + 3 * s.keys);
      auto v0 = hn::LoadU(tag, dv), v1 = hn::LoadU(tag, dv + s.keys), v2 = hn::LoadU(tag, dv + 2 * s.keys),
           v3 = hn::LoadU(tag, dv + 3 * s.keys);
      for (int64_t i = 0; i < rows; ++i) {
        const auto g = hn::LoadU(tag, s.gradients + i * s.keys + j), w = hn::LoadU(tag, s.weights + i * s.keys + j);
        const float *q = s.q + i * s.width + d, *o = s.dout + i * s.width + d;
        k0 = hn::MulAdd(splat(q[0]), g, k0);
        k1 = hn::MulAdd(splat(q[1]), g, k1);
        k2 = hn::MulAdd(splat(q[2]), g, k2);
        k3 = hn::MulAdd(splat(q[3]), g, k3);
        v0 = hn::MulAdd(splat(o[0]), w, v0);
        v1 = hn::MulAdd(splat(o[1]), w, v1);
        v2 = hn::MulAdd(splat(o[2]), w, v2);
        v3 = hn::MulAdd(splat(o[3]), w, v3);
      }
      hn::StoreU(k0, tag, dk);
      hn::StoreU(k1, tag, dk + s.keys);
      hn::StoreU(k2, tag, dk + 2 * s.keys);
      hn::StoreU(k3, tag, dk + 3 * s.keys);
      hn::StoreU(v0, tag, dv);
      hn::StoreU(v1, tag, dv + s.keys);
      hn::StoreU(v2, tag, dv + 2 * s.keys);
      hn::StoreU(v3, tag, dv + 3 * s.keys);
    }
  }
}

// Up to kTogether queries from `i` on, at row `at` of the block.
HWY_INLINE void BackwardGroup(const DenseAttentionRows& a, const DenseAttentionBackward& b, const Scratch& s,
                              const Head& h, int64_t i, int64_t at, int64_t count) {
  const int64_t first = h.index * a.queries + i;
  float *weights = s.weights + at * s.keys, *gradients = s.gradients + at * s.keys;
  if (b.scores != nullptr) {
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t j = 0; j < a.keys; j += kLanes) {
        hn::StoreU(load_part(b.scores + (first + r) * a.keys + j, a.keys - j), TileTag(), weights + r * s.keys + j);
      }
    }
  } else {
    ScoreGroup(count, s.q + at * s.width, s.k, s, a.width,
               a.previous == nullptr ? nullptr : a.previous + first * a.keys, a.keys, weights);
  }
  ScoreGroup(count, s.dout + at * s.width, s.v, s, a.width, nullptr, 0, gradients);
  for (int64_t r = 0; r < count; ++r) {
    WeightsAgain(weights + r * s.keys, b.statistics + 2 * (first + r), a.keys, s.keys);
    ScoreGradients(weights + r * s.keys, gradients + r * s.keys, s, a.keys,
                   b.dscores == nullptr ? nullptr : b.dscores + (first + r) * a.keys, b.add_previous,
                   b.dprevious == nullptr ? nullptr : b.dprevious + (first + r) * a.keys);
  }
  if (b.dq == nullptr) return;
  RowProducts(count, gradients, s.k, a.width, s);
  float* dq = h.tokens(b.dq, b.dq_stride, a.queries, a.width) + i * b.dq_stride;
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t d = 0; d < a.width; ++d) {
      float& to = dq[r * b.dq_stride + d];
      to = s.products[r * a.width + d] * a.scale + (b.add_q ? to : 0.0F);
    }
  }
}

HWY_ATTR void BackwardHead(const DenseAttentionRows& a, const DenseAttentionBackward& b, int64_t index, float* memory) {
  const Scratch s(a, memory);
  const Head h(a, index);
  const int64_t row = a.heads * a.width;
  TransposeIn(h.tokens(a.k, a.k_stride, a.keys, a.width), a.k_stride, a.keys, a.width, s, s.k);
  TransposeIn(h.tokens(a.v, a.v_stride, a.keys, a.width), a.v_stride, a.keys, a.width, s, s.v);
  std::fill_n(s.dk, 2 * s.width * s.keys, 0.0F);
  std::fill_n(s.gradients, kBlock * s.keys, 0.0F);  // the padding
  const float* q = h.tokens(a.q, a.q_stride, a.queries, a.width);
  const float* dout = h.tokens(b.dout, row, a.queries, a.width);
  for (int64_t i = 0; i < a.queries; i += kBlock) {
    const int64_t rows = std::min(kBlock, a.queries - i);
    ScaleIn(q + i * a.q_stride, a.q_stride, rows, a.width, a.scale, s.width, s.q);
    ScaleIn(dout + i * row, row, rows, a.width, 1.0F, s.width, s.dout);
    for (int64_t at = 0; at < rows; at += kTogether) {
      BackwardGroup(a, b, s, h, i + at, at, std::min(kTogether, rows - at));
    }
    AccumulateKeys(s, rows);
  }
  if (b.dk != nullptr) {
    TransposeOut(s.dk, a.keys, a.width, s, b.add_k, h.tokens(b.dk, b.dk_stride, a.keys, a.width), b.dk_stride);
  }
  if (b.dv != nullptr) {
    TransposeOut(s.dv, a.keys, a.width, s, b.add_v, h.tokens(b.dv, b.dv_stride, a.keys, a.width), b.dv_stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(ForwardHead);
HWY_EXPORT(BackwardHead);

// body(head, scratch) for all heads.
template <class Body>
void for_heads(const DenseAttentionRows& a, const Body& body) {
  const int64_t keys = (a.keys + 15) / 16 * 16, width = (a.width + 3) / 4 * 4;
  const int64_t floats = HWY_NAMESPACE::Scratch::floats(keys, width);
  parallel_for(a.batch * a.heads, 16384 / (a.queries * a.keys + 1) + 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(floats));
    for (int64_t head = begin; head < end; ++head) body(head, scratch.data());
  });
}

}  // namespace

void dense_attention_forward_cpu(const DenseAttentionRows& a, float* scores, float* statistics, float* out) {
  for_heads(a, [&](int64_t head, float* scratch) {
    HWY_DYNAMIC_DISPATCH(ForwardHead)(a, head, scores, statistics, out, scratch);
  });
}

void dense_attention_backward_cpu(const DenseAttentionRows& a, const DenseAttentionBackward& b) {
  for_heads(a, [&](int64_t head, float* scratch) { HWY_DYNAMIC_DISPATCH(BackwardHead)(a, b, head, scratch); });
}

}  // namespace farsight
#endif  // HWY_ONCE
