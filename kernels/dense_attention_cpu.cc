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
#include "kernels/dense_attention_tiles-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

constexpr int64_t kBlock = 64;  // queries whose weights and gradients wait for the gradients of the keys

// What one thread works in.
struct Scratch {
  TileSize size;
  float *k, *v, *dk, *dv;      // tables
  float *q, *dout;             // [kBlock][padded width]; zeros in the padding
  float *weights, *gradients;  // [kBlock][padded keys]
  float* products;             // [kTogether * width], and a vector
  static int64_t floats(const TileSize& n) {
    return 4 * n.table() + 2 * kBlock * (n.padded_width + n.padded_keys) + kTogether * n.padded_width + 16;
  }
  Scratch(const TileSize& n, float* memory) : size(n), k(memory) {
    v = k + n.table();
    dk = v + n.table();
    dv = dk + n.table();
    q = dv + n.table();
    dout = q + kBlock * n.padded_width;
    weights = dout + kBlock * n.padded_width;
    gradients = weights + kBlock * n.padded_keys;
    products = gradients + kBlock * n.padded_keys;
  }
};

// One head of one sample: where its tokens and its rows of scores begin.
struct Head {
  int64_t sample, head, first_row;
  Head(const DenseAttentionRows& a, int64_t index)
      : sample(index / a.heads), head(index % a.heads), first_row(index * a.queries) {}
  template <class T>
  T* tokens(T* base, int64_t stride, int64_t tokens_per_sample, int64_t width) const {
    return base + sample * tokens_per_sample * stride + head * width;
  }
};

template <class T>
HWY_INLINE T* offset_or_null(T* base, int64_t offset) {
  return base == nullptr ? nullptr : base + offset;
}

HWY_INLINE void LoadKeys(const DenseAttentionRows& a, const Head& h, const Scratch& s) {
  TransposeIn(h.tokens(a.k, a.k_stride, a.keys, a.width), a.k_stride, s.size, s.k);
  TransposeIn(h.tokens(a.v, a.v_stride, a.keys, a.width), a.v_stride, s.size, s.v);
}

HWY_INLINE void LoadRows(const float* from, int64_t stride, int64_t rows, float scale, const TileSize& n, float* to) {
  for (int64_t i = 0; i < rows; ++i) {
    ScaleFew(from + i * stride, n.width, scale, to + i * n.padded_width);
    for (int64_t d = n.width; d < n.padded_width; ++d) to[i * n.padded_width + d] = 0.0F;
  }
}

HWY_ATTR void ForwardHead(const DenseAttentionRows& a, int64_t index, float* scores, float* statistics, float* out,
                          float* memory) {
  const Scratch s(TileSize(a.keys, a.width), memory);
  const Head h(a, index);
  const int64_t keys = s.size.padded_keys, row = a.heads * a.width;
  LoadKeys(a, h, s);
  const float* q = h.tokens(a.q, a.q_stride, a.queries, a.width);
  float* o = h.tokens(out, row, a.queries, a.width);
  for (int64_t i = 0; i < a.queries; i += kTogether) {
    const int64_t count = std::min(kTogether, a.queries - i), first = h.first_row + i;
    LoadRows(q + i * a.q_stride, a.q_stride, count, a.scale, s.size, s.q);
    ScoreGroup(count, s.q, s.k, s.size, offset_or_null(a.previous, first * a.keys), s.weights);
    for (int64_t r = 0; scores != nullptr && r < count; ++r) {
      for (int64_t j = 0; j < a.keys; j += kLanes) {
        store_part(hn::LoadU(TileTag(), s.weights + r * keys + j), a.keys - j, scores + (first + r) * a.keys + j);
      }
    }
    float* row_statistics = statistics + 2 * first;
    if (count == kTogether) {
      Exponentiate<kTogether>(s.weights, s.size, row_statistics);
    } else {
      for (int64_t r = 0; r < count; ++r) Exponentiate<1>(s.weights + r * keys, s.size, row_statistics + 2 * r);
    }
    RowProducts(count, s.weights, s.v, s.size, s.products);
    for (int64_t r = 0; r < count; ++r) {
      ScaleFew(s.products + r * a.width, a.width, row_statistics[2 * r + 1], o + (i + r) * row);
    }
  }
}

// Up to kTogether queries from `i` on, at row `at` of the block.
HWY_INLINE void BackwardGroup(const DenseAttentionRows& a, const DenseAttentionBackward& b, const Scratch& s,
                              const Head& h, int64_t i, int64_t at, int64_t count) {
  const int64_t first = h.first_row + i, pairs = first * a.keys, keys = s.size.padded_keys;
  float *weights = s.weights + at * keys, *gradients = s.gradients + at * keys;
  if (b.scores == nullptr) {
    ScoreGroup(count, s.q + at * s.size.padded_width, s.k, s.size, offset_or_null(a.previous, pairs), weights);
  }
  const float* scores = b.scores == nullptr ? weights : b.scores + pairs;
  const int64_t score_stride = b.scores == nullptr ? keys : a.keys;
  const float *statistics = b.statistics + 2 * first, *dscores = offset_or_null(b.dscores, pairs);
  float* dprevious = offset_or_null(b.dprevious, pairs);
  ScoreGroup(count, s.dout + at * s.size.padded_width, s.v, s.size, nullptr, gradients);
  if (count == kTogether) {
    ScoreGradients<kTogether>(scores, score_stride, statistics, s.size, dscores, b.add_previous, dprevious, weights,
                              gradients);
  } else {
    for (int64_t r = 0; r < count; ++r) {
      ScoreGradients<1>(scores + r * score_stride, score_stride, statistics + 2 * r, s.size,
                        offset_or_null(dscores, r * a.keys), b.add_previous, offset_or_null(dprevious, r * a.keys),
                        weights + r * keys, gradients + r * keys);
    }
  }
  if (b.dq == nullptr) return;
  RowProducts(count, gradients, s.k, s.size, s.products);
  float* dq = h.tokens(b.dq, b.dq_stride, a.queries, a.width) + i * b.dq_stride;
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t d = 0; d < a.width; ++d) {
      float& to = dq[r * b.dq_stride + d];
      to = s.products[r * a.width + d] * a.scale + (b.add_q ? to : 0.0F);
    }
  }
}

HWY_ATTR void BackwardHead(const DenseAttentionRows& a, const DenseAttentionBackward& b, int64_t index, float* memory) {
  const Scratch s(TileSize(a.keys, a.width), memory);
  const Head h(a, index);
  const int64_t row = a.heads * a.width;
  LoadKeys(a, h, s);
  std::fill_n(s.dk, 2 * s.size.table(), 0.0F);
  const float* q = h.tokens(a.q, a.q_stride, a.queries, a.width);
  const float* dout = h.tokens(b.dout, row, a.queries, a.width);
  for (int64_t i = 0; i < a.queries; i += kBlock) {
    const int64_t rows = std::min(kBlock, a.queries - i);
    LoadRows(q + i * a.q_stride, a.q_stride, rows, a.scale, s.size, s.q);
    LoadRows(dout + i * row, row, rows, 1.0F, s.size, s.dout);
    for (int64_t at = 0; at < rows; at += kTogether) {
      BackwardGroup(a, b, s, h, i + at, at, std::min(kTogether, rows - at));
    }
    AccumulateKeys(s.gradients, s.weights, s.q, s.dout, rows, s.size, s.dk, s.dv);
  }
  if (b.dk != nullptr) {
    TransposeOut(s.dk, s.size, b.add_k, h.tokens(b.dk, b.dk_stride, a.keys, a.width), b.dk_stride);
  }
  if (b.dv != nullptr) {
    TransposeOut(s.dv, s.size, b.add_v, h.tokens(b.dv, b.dv_stride, a.keys, a.width), b.dv_stride);
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
  const int64_t floats = HWY_NAMESPACE::Scratch::floats(HWY_NAMESPACE::TileSize(a.keys, a.width));
  parallel_for(a.batch * a.heads, 16384 / (a.queries * a.keys + 1) + 1, [&](int64_t begin, int64_t end) {
    // Padding that no loop writes is multiplied by zeros: it must be finite.
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
