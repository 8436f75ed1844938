// SPDX-License-Identifier: Apache-2.0
// Dense attention on the device (see dense_attention.h). Scores and what comes of them are fp32.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

struct CudaDenseAttention {
  DType type;  // of q, k, v, out
  int64_t batch, heads, queries, keys, width;
  float scale;
  const void* q;
  int64_t q_stride;
  const void* k;
  int64_t k_stride;
  const void* v;
  int64_t v_stride;
  const float* previous;  // [B, H, Tq, Tk]; null: 0
  float* scores;          // [B, H, Tq, Tk]; null: not wanted
  float* statistics;      // [B, H, Tq, 2]: largest score, 1 / sum
  void* out;              // contiguous
};

struct CudaDenseAttentionBackward {
  DType type;  // of q, k, v, dout and their gradients
  int64_t batch, heads, queries, keys, width;
  float scale;
  const void* q;
  int64_t q_stride;
  const void* k;
  int64_t k_stride;
  const void* v;
  int64_t v_stride;
  const float* scores;
  const float* statistics;
  const void* dout;      // contiguous
  const float* dscores;  // null: 0
  float* gradients;      // [B, H, Tq, Tk] dS, overwritten; may be dscores
  void* dq;              // null: not wanted
  int64_t dq_stride;
  bool add_q;
  void* dk;
  int64_t dk_stride;
  bool add_k;
  void* dv;
  int64_t dv_stride;
  bool add_v;
};

}  // namespace farsight
