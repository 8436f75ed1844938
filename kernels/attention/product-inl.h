// SPDX-License-Identifier: Apache-2.0
// Tile products C = op(A) B (+ C) on packed operands. B is packed in pieces of a few vectors of columns, each piece
// [rows of B][piece width], so that the inner loop reads it with unit stride; A is read by broadcasts. The accumulators
// (8 x 3 or 6 x 4 vectors with 32 registers, 6 x 2 with 16) stay in registers over the whole inner dimension.
// Included once per Highway target.
#if defined(FARSIGHT_KERNELS_ATTENTION_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FARSIGHT_KERNELS_ATTENTION_PRODUCT_INL_H_
#undef FARSIGHT_KERNELS_ATTENTION_PRODUCT_INL_H_
#else
#define FARSIGHT_KERNELS_ATTENTION_PRODUCT_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/attention/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SCALAR
constexpr int kMaxVectors = 2;
constexpr int kScorePiece = 2;  // vectors of a piece of K^T
#else
constexpr int kMaxVectors = 4;
constexpr int kScorePiece = 3;
#endif

template <int V>
constexpr int rows_of() {
  return kMaxVectors == 2 || V == 4 ? 6 : 8;
}

constexpr int64_t vectors_for(int64_t columns) { return (columns + kLanes - 1) / kLanes; }

// Vectors of the next piece when `left` vectors are left: never leaves a single one behind if it can be avoided.
constexpr int64_t piece_vectors(int64_t left) {
  if (left <= kMaxVectors) return left;
  return kMaxVectors == 4 && (left == 5 || left == 6) ? 3 : kMaxVectors;
}

template <int V, size_t... I>
HWY_INLINE void fma_row(TileVec a, const TileVec* b, TileVec* acc, std::index_sequence<I...>) {
  ((acc[I] = hn::MulAdd(a, b[I], acc[I])), ...);
}

template <int V, bool kTransA, size_t... R>
HWY_INLINE void fma_step(const float* a, int64_t lda, const float* b, TileVec (&acc)[sizeof...(R)][V],
                         std::index_sequence<R...>) {
  const TileTag d;
  TileVec vb[V];
  for (int v = 0; v < V; ++v) vb[v] = hn::Load(d, b + v * kLanes);
  (fma_row<V>(hn::Set(d, a[static_cast<int64_t>(R) * (kTransA ? 1 : lda)]), vb, acc[R], std::make_index_sequence<V>()),
   ...);
}

template <size_t... I>
HWY_INLINE void zero_row(TileVec* acc, std::index_sequence<I...>) {
  ((acc[I] = hn::Zero(TileTag())), ...);
}

template <bool kAdd, size_t... I>
HWY_INLINE void store_row(const TileVec* acc, float* c, std::index_sequence<I...>) {
  const TileTag d;
  const auto sum = [&](TileVec x, const float* at) HWY_ATTR { return kAdd ? hn::Add(hn::Load(d, at), x) : x; };
  (hn::Store(sum(acc[I], c + static_cast<int64_t>(I) * kLanes), d, c + static_cast<int64_t>(I) * kLanes), ...);
}

// R rows by V vectors. The sum over `inner` starts at 0 even where it is added to C: short sums, then a sum of sums,
// round less than one long sum. Element (i, x) of op(A) is a[i * lda + x], with kTransA a[x * lda + i].
template <int V, bool kTransA, bool kAdd, size_t... R>
HWY_INLINE void micro_product(int64_t inner, const float* HWY_RESTRICT a, int64_t lda, const float* HWY_RESTRICT b,
                              float* HWY_RESTRICT c, int64_t ldc, std::index_sequence<R...> rows) {
  TileVec acc[sizeof...(R)][V];
  (zero_row(acc[R], std::make_index_sequence<V>()), ...);
  for (int64_t x = 0; x < inner; ++x) {
    fma_step<V, kTransA>(a + x * (kTransA ? lda : 1), lda, b + x * V * kLanes, acc, rows);
  }
  (store_row<kAdd>(acc[R], c + static_cast<int64_t>(R) * ldc, std::make_index_sequence<V>()), ...);
}

// One piece of B. Rows are computed in whole groups: A and C must be readable / writable up to a multiple of 24 rows.
template <int V, bool kTransA, bool kAdd>
HWY_NOINLINE void piece_product(int64_t rows, int64_t inner, const float* a, int64_t lda, const float* b, float* c,
                                int64_t ldc) {
  constexpr int R = rows_of<V>();
  for (int64_t i = 0; i < rows; i += R) {
    micro_product<V, kTransA, kAdd>(inner, a + i * (kTransA ? 1 : lda), lda, b, c + i * ldc, ldc,
                                    std::make_index_sequence<R>());
  }
}

// B packed by pack_rows: `b_rows` rows allocated, of which [first, first + inner) are used; `vectors` vectors wide.
template <bool kTransA, bool kAdd>
HWY_INLINE void product(int64_t rows, int64_t inner, const float* a, int64_t lda, const float* b, int64_t b_rows,
                        int64_t first, int64_t vectors, float* c, int64_t ldc) {
  for (int64_t at = 0; at < vectors;) {
    const int64_t v = piece_vectors(vectors - at);
    const float* piece = b + (b_rows * at + first * v) * kLanes;
    float* out = c + at * kLanes;
    if (v == 1) piece_product<1, kTransA, kAdd>(rows, inner, a, lda, piece, out, ldc);
    if (v == 2) piece_product<2, kTransA, kAdd>(rows, inner, a, lda, piece, out, ldc);
    if constexpr (kMaxVectors == 4) {
      if (v == 3) piece_product<3, kTransA, kAdd>(rows, inner, a, lda, piece, out, ldc);
      if (v == 4) piece_product<4, kTransA, kAdd>(rows, inner, a, lda, piece, out, ldc);
    }
    at += v;
  }
}

// C = A B for one score piece, in runs of 64 channels (see micro_product).
HWY_INLINE void score_product(int64_t rows, int64_t width, const float* a, const float* piece, float* c, int64_t ldc) {
  constexpr int64_t kRun = 64;
  piece_product<kScorePiece, false, false>(rows, std::min(width, kRun), a, width, piece, c, ldc);
  for (int64_t x = kRun; x < width; x += kRun) {
    piece_product<kScorePiece, false, true>(rows, std::min(width - x, kRun), a + x, width,
                                            piece + x * kScorePiece * kLanes, c, ldc);
  }
}

// rows x columns of a row-major matrix into pieces of b_rows rows, times factor; the last vector and the rows from
// `rows` to b_rows are zero.
HWY_INLINE void pack_rows(const float* x, int64_t stride, int64_t rows, int64_t columns, float factor, int64_t b_rows,
                          float* packed) {
  const TileTag d;
  const int64_t vectors = vectors_for(columns);
  for (int64_t at = 0; at < vectors;) {
    const int64_t v = piece_vectors(vectors - at);
    float* piece = packed + b_rows * at * kLanes;
    for (int64_t r = 0; r < b_rows; ++r) {
      for (int64_t n = 0; n < v; ++n) {
        const int64_t column = (at + n) * kLanes;
        const float* from = x + r * stride + column;
        auto value = hn::Zero(d);
        if (r < rows) {
          value = columns - column >= kLanes
                      ? hn::LoadU(d, from)
                      : hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(columns - column)), d, from);
        }
        hn::Store(hn::Mul(value, splat(factor)), d, piece + (r * v + n) * kLanes);
      }
    }
    at += v;
  }
}

// to[c * to_stride + r] = from[r * stride + c] for 4 rows and 4 columns.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void transpose_4x4(const float* from, int64_t stride, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < 4; ++r) {
    for (int64_t c = 0; c < 4; ++c) to[c * to_stride + r] = from[r * stride + c];
  }
}
#else
HWY_INLINE void transpose_4x4(const float* from, int64_t stride, float* to, int64_t to_stride) {
  const hn::FixedTag<float, 4> d;
  const auto r0 = hn::LoadU(d, from), r1 = hn::LoadU(d, from + stride);
  const auto r2 = hn::LoadU(d, from + 2 * stride), r3 = hn::LoadU(d, from + 3 * stride);
  const auto even_low = hn::InterleaveLower(d, r0, r2), odd_low = hn::InterleaveLower(d, r1, r3);
  const auto even_high = hn::InterleaveUpper(d, r0, r2), odd_high = hn::InterleaveUpper(d, r1, r3);
  hn::StoreU(hn::InterleaveLower(d, even_low, odd_low), d, to);
  hn::StoreU(hn::InterleaveUpper(d, even_low, odd_low), d, to + to_stride);
  hn::StoreU(hn::InterleaveLower(d, even_high, odd_high), d, to + 2 * to_stride);
  hn::StoreU(hn::InterleaveUpper(d, even_high, odd_high), d, to + 3 * to_stride);
}
#endif

HWY_INLINE void transpose(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to,
                          int64_t to_stride) {
  const int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4) {
    for (int64_t c = 0; c < whole_columns; c += 4) {
      transpose_4x4(from + r * stride + c, stride, to + c * to_stride + r, to_stride);
    }
    for (int64_t c = whole_columns; c < columns; ++c) {
      for (int64_t i = r; i < r + 4; ++i) to[c * to_stride + i] = from[i * stride + c];
    }
  }
  for (int64_t r = whole_rows; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * to_stride + r] = from[r * stride + c];
  }
}

// The transpose in score pieces: piece n holds [columns][width] of the rows n * width ..., with width = kScorePiece *
// kLanes; rows from `rows` up to b_columns are zero-filled.
HWY_INLINE void pack_transposed(const float* x, int64_t stride, int64_t rows, int64_t columns, int64_t b_columns,
                                float* packed) {
  constexpr int64_t kWidth = kScorePiece * kLanes;
  for (int64_t first = 0; first < b_columns; first += kWidth) {
    float* piece = packed + first * columns;
    const int64_t valid = std::clamp<int64_t>(rows - first, 0, kWidth);
    if (valid < kWidth) std::fill_n(piece, columns * kWidth, 0.0F);
    if (valid > 0) transpose(x + first * stride, stride, valid, columns, piece, kWidth);
  }
}

// Row-major copy times factor, rows up to b_rows zero-filled: the A side.
HWY_INLINE void copy_rows(const float* x, int64_t stride, int64_t rows, int64_t columns, float factor, int64_t b_rows,
                          float* copy) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) copy[r * columns + c] = factor * x[r * stride + c];
  }
  std::fill_n(copy + rows * columns, (b_rows - rows) * columns, 0.0F);
}

// Row-major copy with rows of `padded` floats, everything else zero.
HWY_INLINE void copy_padded_rows(const float* x, int64_t stride, int64_t rows, int64_t columns, int64_t padded,
                                 int64_t b_rows, float* copy) {
  std::fill_n(copy, b_rows * padded, 0.0F);
  for (int64_t r = 0; r < rows; ++r) std::copy_n(x + r * stride, columns, copy + r * padded);
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#endif  // per target
