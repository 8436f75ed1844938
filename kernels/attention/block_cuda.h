// SPDX-License-Identifier: Apache-2.0
// Blockwise attention on the device: the arguments of the tile kernels (see block.h for the mathematics).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

// Smallest and largest position and document of some consecutive rows: of kCudaBoundRows each, and after these of
// kCudaGroupRows each, so that long runs of empty tiles are passed quickly.
inline constexpr int64_t kCudaBoundRows = 32, kCudaGroupRows = 1024;
struct alignas(16) CudaRowBounds {
  int32_t position_min, position_max, document_min, document_max;
};
constexpr int64_t cuda_fine_bounds(int64_t tokens) { return (tokens + kCudaBoundRows - 1) / kCudaBoundRows; }
// Both kinds, of one sample.
constexpr int64_t cuda_bounds(int64_t tokens) {
  return cuda_fine_bounds(tokens) + (tokens + kCudaGroupRows - 1) / kCudaGroupRows;
}
struct CudaAttentionBounds {
  int64_t batch, tokens;
  const int32_t* positions;  // [B, T]
  const int32_t* documents;  // [B, T] or null
  CudaRowBounds* bounds;     // [B, cuda_bounds(T)]
};

// Queries, keys and policies of one call. Tile kernels take score and value widths up to kCudaAttentionWidth.
inline constexpr int64_t kCudaAttentionWidth = 128;
struct CudaAttention {
  DType type;  // of q, k, v, score vectors and dout: f32 or bf16
  int64_t batch, q_tokens, k_tokens, heads, kv_heads, width, value_width;
  const void *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;  // between tokens
  const int32_t *q_positions, *k_positions;
  const int32_t *q_documents, *k_documents;  // null: one document
  const CudaRowBounds *q_bounds, *k_bounds;
  int32_t low, high;             // visible iff low <= query position - key position <= high
  float scale;                   // of the dot product
  bool additive;                 // the other score
  const void* score_vectors;     // [H, D]
  const float* slopes;           // [H] ALiBi, null: none
  const uint64_t* dropout_keys;  // [B], null: no dropout
  uint32_t first_head, threshold;
  float keep;
  bool entropy;
};

// Merges the keys into the row state (m, l, u [B, H, Tq], o [B, Tq, H, Dv]); `fresh`: the state is empty and need not
// be read. With `out` the rows are complete: out and lse (and entropy) are written, the state is not and may be null.
struct CudaAttentionForward {
  CudaAttention a;
  float *m, *l, *u, *o;
  bool fresh;
  void* out;  // of type a.type
  int64_t out_stride;
  float *lse, *row_entropy;
};

// attention_finish: the state into out, lse, entropy (null: not wanted).
struct CudaAttentionFinish {
  DType type;  // of out
  int64_t batch, tokens, heads, value_width;
  const float *m, *l, *u, *o;
  void* out;
  int64_t out_stride;
  float *lse, *row_entropy;
};

// attention_merge: `rows` finished rows (out of type `type`, lse [B, H, rows]) into the rows [first, first + rows) of a
// state of `tokens` rows. A row with lse = -inf changes nothing. The state keeps no entropies.
struct CudaAttentionMerge {
  DType type;
  int64_t batch, rows, heads, value_width;
  const void* out;
  int64_t out_stride;
  const float* lse;
  int64_t tokens, first;
  float *m, *l, *o;
};

// row_term [B, H, Tq] of attention_backward_rows; grad_entropy, row_entropy and grad_lse may be null.
struct CudaAttentionRowTerms {
  DType type;  // of out and dout
  int64_t batch, tokens, heads, value_width;
  const float* lse;
  const void* out;
  int64_t out_stride;
  const void* dout;
  int64_t dout_stride;
  const float *grad_entropy, *row_entropy, *grad_lse;
  float* row_term;
};

// Gradients of one block, written or added (per tensor), in f32 or bf16.
struct CudaAttentionBackward {
  CudaAttention a;
  const float *lse, *row_term, *grad_entropy;
  const void* dout;
  int64_t dout_stride;
  DType gradient_type;
  void *dq, *dk, *dv;
  int64_t dq_stride, dk_stride, dv_stride;
  bool add_q, add_kv;
  float* dscore_vectors;  // [B, blocks of queries, H, D] sums to be added up; null unless additive
};
// Queries of one such block.
inline int64_t cuda_attention_query_rows(DType type) { return type == DType::bf16 ? 128 : 64; }

}  // namespace farsight
