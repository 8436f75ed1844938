// SPDX-License-Identifier: Apache-2.0
// What the attention kernels are made of: tiles in shared memory, products of a warp's 16 rows with a tile, and the
// policies of a pair. Results are spread over a warp as in kernels/cuda/mma_cuda.h whatever the type: bf16 multiplies
// on the tensor cores, fp32 with plain arithmetic (for parity with the CPU, not for speed).
//
// The kernels that give dq and dk, dv both use "rows" for the 16 rows of a warp and "columns" for the other side; in
// one the rows are queries, in the other keys.
#pragma once

#include <cstdint>

#include "kernels/attention/bounds_cuda.h"
#include "kernels/cuda/mma_cuda.h"
#include "kernels/cuda/reduce_cuda.h"
#include "kernels/cuda/vector_cuda.h"
#include "kernels/random_cuda.h"

namespace farsight::cuda {

// Warps of a block (16 rows each) and columns of a tile, by type: what fits into 227 KiB of shared memory.
template <class T>
struct TileShape;
template <>
struct TileShape<bf16> {
  static constexpr int kWarps = 8, kColumns = 64;
};
template <>
struct TileShape<float> {
  static constexpr int kWarps = 4, kColumns = 32;
};

static_assert(16 * TileShape<bf16>::kWarps == 128 && 16 * TileShape<float>::kWarps == 64, "cuda_attention_query_rows");

// Elements between rows of a tile: 16 bytes more than the width, so that eight rows begin in different banks.
template <class T, int kWidth>
inline constexpr int kTileStride = kWidth + 16 / static_cast<int>(sizeof(T));

// A piece of a matrix [tokens, heads * width] of one sample and head.
struct TileSource {
  const void* data;  // element (token 0, channel 0)
  int64_t stride;    // between tokens
  int64_t tokens, width;
};

template <class T>
__device__ TileSource tile_source(const void* data, int64_t b, int64_t tokens, int64_t stride, int64_t head,
                                  int64_t width) {
  return {static_cast<const T*>(data) + b * tokens * stride + head * width, stride, tokens, width};
}

// Rows [first, first + rows) of the source into a tile; what lies outside of it becomes zero. Asynchronous where the
// rows allow 16-byte copies; complete after wait_copies and a barrier of the block.
template <class T, int kWidth>
__device__ void load_tile(const TileSource& source, int64_t first, int rows, T* tile) {
  constexpr int kPiece = 16 / static_cast<int>(sizeof(T));
  constexpr int kPieces = kWidth / kPiece;
  const bool aligned =
      reinterpret_cast<uintptr_t>(source.data) % 16 == 0 && source.stride % kPiece == 0 && source.width % kPiece == 0;
  for (int i = static_cast<int>(threadIdx.x); i < rows * kPieces; i += static_cast<int>(blockDim.x)) {
    const int row = i / kPieces, column = i % kPieces * kPiece;
    const bool inside = first + row < source.tokens && column < source.width;
    const T* from = static_cast<const T*>(source.data) + (first + row) * source.stride + column;
    T* to = tile + row * kTileStride<T, kWidth> + column;
    if (aligned) {
      copy_async(to, inside ? from : static_cast<const T*>(source.data), inside);
      continue;
    }
    for (int c = 0; c < kPiece; ++c) {
      const bool valid = first + row < source.tokens && column + c < source.width;
      to[c] = valid ? from[c] : from_float<T>(0.0F);
    }
  }
}

__device__ inline int lane_group() { return static_cast<int>(threadIdx.x) % 32 / 4; }
__device__ inline int lane_place() { return static_cast<int>(threadIdx.x) % 4; }
// Row (0 .. 15) and column of element `i` of the 16 x 8 result number n.
__device__ inline int result_row(int i) { return lane_group() + 8 * (i / 2); }
__device__ inline int result_column(int n, int i) { return 8 * n + 2 * lane_place() + i % 2; }

// Sum or maximum over the four lanes that share a row.
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(kWholeWarp, x, 1);
  return x + __shfl_xor_sync(kWholeWarp, x, 2);
}
__device__ inline float row_max(float x) {
  x = max_or_nan(x, __shfl_xor_sync(kWholeWarp, x, 1));
  return max_or_nan(x, __shfl_xor_sync(kWholeWarp, x, 2));
}

// Products of 16 rows of a warp. nt: acc += A B^T, A 16 rows and B 8 * kTiles rows of kWidth channels. pn: acc += P B,
// P a result of 16 x 8 * kDepth, B 8 * kDepth rows of kWidth channels; `scratch` holds 16 x (8 * kDepth + 1) floats of
// the warp where P is not handed over in registers.
template <class T, int kWidth>
struct Products;

template <int kWidth>
struct Products<bf16, kWidth> {
  static constexpr int kStride = kTileStride<bf16, kWidth>;

  template <int kTiles>
  __device__ static void nt(float (&acc)[kTiles][4], const bf16* a, const bf16* b) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int k = 0; k < kWidth; k += 16) {
      uint32_t rows[4];
      load_matrices(rows, a + lane % 16 * kStride + k + lane / 16 * 8);
#pragma unroll
      for (int n = 0; n < kTiles; n += 2) {
        // Matrices: columns 8n.. of channels k.., of channels k + 8..; columns 8n + 8.. of both.
        uint32_t pair[4];
        load_matrices(pair, b + (8 * n + lane / 16 * 8 + lane % 8) * kStride + k + lane / 8 % 2 * 8);
        const uint32_t first[2] = {pair[0], pair[1]}, second[2] = {pair[2], pair[3]};
        mma(acc[n], rows, first);
        mma(acc[n + 1], rows, second);
      }
    }
  }

  template <int kDepth>
  __device__ static void pn(float (&acc)[kWidth / 8][4], const float (&p)[kDepth][4], const bf16* b, float*) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int k = 0; k < kDepth; k += 2) {
      const uint32_t rows[4] = {pack_bf16(p[k][0], p[k][1]), pack_bf16(p[k][2], p[k][3]),
                                pack_bf16(p[k + 1][0], p[k + 1][1]), pack_bf16(p[k + 1][2], p[k + 1][3])};
#pragma unroll
      for (int n = 0; n < kWidth / 8; n += 2) {
        // Matrices: rows 8k.. of channels 8n.., rows 8k + 8..; the same of channels 8n + 8...
        uint32_t pair[4];
        load_matrices_transposed(pair, b + (8 * k + lane % 16) * kStride + 8 * n + lane / 16 * 8);
        const uint32_t first[2] = {pair[0], pair[1]}, second[2] = {pair[2], pair[3]};
        mma(acc[n], rows, first);
        mma(acc[n + 1], rows, second);
      }
    }
  }
};

// P of a warp, row by row, where every lane can read it.
template <int kDepth>
__device__ void spread_rows(const float (&p)[kDepth][4], float* scratch) {
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kDepth; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scratch[result_row(i) * (8 * kDepth + 1) + result_column(n, i)] = p[n][i];
  }
  __syncwarp();
}

template <int kWidth>
struct Products<float, kWidth> {
  static constexpr int kStride = kTileStride<float, kWidth>;

  template <int kTiles>
  __device__ static void nt(float (&acc)[kTiles][4], const float* a, const float* b) {
    for (int k = 0; k < kWidth; ++k) {
      const float low = a[result_row(0) * kStride + k], high = a[result_row(2) * kStride + k];
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const float even = b[result_column(n, 0) * kStride + k], odd = b[result_column(n, 1) * kStride + k];
        acc[n][0] += low * even;
        acc[n][1] += low * odd;
        acc[n][2] += high * even;
        acc[n][3] += high * odd;
      }
    }
  }

  template <int kDepth>
  __device__ static void pn(float (&acc)[kWidth / 8][4], const float (&p)[kDepth][4], const float* b, float* scratch) {
    spread_rows(p, scratch);
    constexpr int kRow = 8 * kDepth + 1;
    for (int j = 0; j < 8 * kDepth; ++j) {
      const float low = scratch[result_row(0) * kRow + j], high = scratch[result_row(2) * kRow + j];
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        const float even = b[j * kStride + result_column(n, 0)], odd = b[j * kStride + result_column(n, 1)];
        acc[n][0] += low * even;
        acc[n][1] += low * odd;
        acc[n][2] += high * even;
        acc[n][3] += high * odd;
      }
    }
  }
};

// Additive scores acc = sum_c y_c tanh(a_c + b_c), for any type.
template <class T, int kWidth, int kTiles>
__device__ void additive_scores(float (&acc)[kTiles][4], const T* a, const T* b, const float* y, int64_t width) {
  constexpr int kStride = kTileStride<T, kWidth>;
  for (int c = 0; c < width; ++c) {
    const float weight = y[c];
    const float low = to_float(a[result_row(0) * kStride + c]), high = to_float(a[result_row(2) * kStride + c]);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const float even = to_float(b[result_column(n, 0) * kStride + c]);
      const float odd = to_float(b[result_column(n, 1) * kStride + c]);
      acc[n][0] += weight * tanhf(low + even);
      acc[n][1] += weight * tanhf(low + odd);
      acc[n][2] += weight * tanhf(high + even);
      acc[n][3] += weight * tanhf(high + odd);
    }
  }
}

// acc[row, c] += sum_j ds[row, j] y_c (1 - tanh^2(a_c + b_jc)): the gradient of the rows under additive scores; and
// dy[row, c] += sum_j ds[row, j] tanh(a_c + b_jc).
template <class T, int kWidth, int kDepth>
__device__ void additive_gradient(float (&acc)[kWidth / 8][4], float (&dy)[kWidth / 8][4], const float (&ds)[kDepth][4],
                                  const T* a, const T* b, const float* y, int64_t width, float* scratch) {
  constexpr int kStride = kTileStride<T, kWidth>;
  constexpr int kRow = 8 * kDepth + 1;
  spread_rows(ds, scratch);
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int c = result_column(n, i), row = result_row(i);
      if (c >= width) continue;
      const float own = to_float(a[row * kStride + c]);
      float slope = 0.0F, value = 0.0F;
      for (int j = 0; j < 8 * kDepth; ++j) {
        const float d = scratch[row * kRow + j];
        const float h = tanhf(own + to_float(b[j * kStride + c]));
        slope += d * (1.0F - h * h);
        value += d * h;
      }
      acc[n][i] += y[c] * slope;
      dy[n][i] += value;
    }
  }
}

// A query or key as the policies see it.
struct Place {
  int32_t position, document;
};

__device__ inline bool visible(const CudaAttention& a, const Place& query, const Place& key) {
  const int64_t delta = int64_t{query.position} - key.position;
  return delta >= a.low && delta <= a.high && query.document == key.document;
}

// The multiplier of a weight after normalisation: 0 or 1 / (1 - p).
__device__ inline float dropout_factor(const CudaAttention& a, uint64_t key, int64_t head, int32_t query_position,
                                       int32_t key_position) {
  const auto k = static_cast<uint32_t>(key_position);
  const PhiloxWords words =
      philox_words(key, static_cast<uint32_t>(query_position), k >> 2, a.first_head + static_cast<uint32_t>(head), 0);
  return select(words, static_cast<int>(k & 3)) >= a.threshold ? a.keep : 0.0F;
}

// What lies in shared memory beside a tile of columns.
template <int kColumns>
struct ColumnPlaces {
  Place place[kColumns];
};

template <int kColumns>
__device__ void load_places(const int32_t* positions, const int32_t* documents, int64_t b, int64_t tokens,
                            int64_t first, ColumnPlaces<kColumns>& to) {
  for (int i = static_cast<int>(threadIdx.x); i < kColumns; i += static_cast<int>(blockDim.x)) {
    const bool inside = first + i < tokens;
    const int64_t at = b * tokens + first + i;
    to.place[i] = {inside ? positions[at] : 0, inside && documents != nullptr ? documents[at] : 0};
  }
}

// Goes through the tiles in [0, end) that next(tile) names, the first one at or after it, or `end`. With two buffers:
// the next tile arrives while the current one is computed. load(tile, buffer) ends with commit_copies(); what was
// committed before has arrived too when compute(tile, buffer) runs.
template <class Next, class Load, class Compute>
__device__ void for_tiles(int64_t end, const Next& next, const Load& load, const Compute& compute) {
  int64_t current = next(0);
  if (current < end) load(current, 0);
  for (int buffer = 0; current < end; buffer ^= 1) {
    const int64_t following = next(current + 1);
    if (following < end) {
      load(following, buffer ^ 1);
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    __syncthreads();
    compute(current, buffer);
    __syncthreads();
    current = following;
  }
  wait_copies<0>();
}

// e^x for x <= 0; bf16 results need no more than the hardware's 2^x.
template <class T>
__device__ float exponential(float x) {
  if constexpr (sizeof(T) == 4) return expf(x);
  return exp2f(x * 1.4426950408889634F);
}

// One result element of a warp's rows to global memory.
__device__ inline void put(void* data, DType type, int64_t at, float value, bool add) {
  if (type == DType::f32) {
    float* to = static_cast<float*>(data) + at;
    *to = add ? *to + value : value;
  } else {
    bf16* to = static_cast<bf16*>(data) + at;
    *to = from_float<bf16>(add ? to_float(*to) + value : value);
  }
}

}  // namespace farsight::cuda
