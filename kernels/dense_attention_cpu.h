// SPDX-License-Identifier: Apache-2.0
// Loops behind dense_attention.h: one head of one sample at a time.
#pragma once

#include <cstdint>

namespace farsight {

struct DenseAttentionRows {
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, width = 0;  // B, H, Tq, Tk, D
  float scale = 1.0F;
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  const float* previous = nullptr;  // [B, H, Tq, Tk]; null: 0
};

// out contiguous; scores [B, H, Tq, Tk], null: not wanted; statistics [B, H, Tq, 2]: largest score of the row, and
// 1 / sum e^(s - largest).
void dense_attention_forward_cpu(const DenseAttentionRows& a, float* scores, float* statistics, float* out);

struct DenseAttentionBackward {
  const float* scores = nullptr;  // null: computed again
  const float* statistics = nullptr;
  const float* dout = nullptr;                        // contiguous
  const float* dscores = nullptr;                     // null: 0
  float *dq = nullptr, *dk = nullptr, *dv = nullptr;  // null: not wanted
  int64_t dq_stride = 0, dk_stride = 0, dv_stride = 0;
  bool add_q = false, add_k = false, add_v = false;
  float* dprevious = nullptr;  // null: not wanted; may be dscores
  bool add_previous = false;
};
void dense_attention_backward_cpu(const DenseAttentionRows& a, const DenseAttentionBackward& b);

}  // namespace farsight
