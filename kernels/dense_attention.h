// SPDX-License-Identifier: Apache-2.0
// Attention of short sequences with its raw scores in the open, for residual attention (each layer adds the raw scores
// of the layer before to its own) and for cross-attention from a few queries.
//   S = scale q k^T + previous      P = softmax(S) over the keys      out = P v
//   q [B * Tq, H * D], k, v [B * Tk, H * D] f32, on a device also bf16, maybe column views: row b * T + t holds token t
//     of sample b, its columns [h * D, (h + 1) * D) are head h; Tk <= kDenseAttentionKeys
//     (B may be 0: a rank that has no part of a batch)
//   previous [B, H, Tq, Tk] f32 or undefined: 0
//   out [B * Tq, H * D] of the type of q;  scores S [B, H, Tq, Tk] f32
// With dP = dout v^T the gradient of the scores is dS = P (dP - sum_k P dP) + (gradient of `scores`), and passes on to
// `previous` as it is, in the same memory where nobody else contributed.
// Holds q, k, v and two numbers a row until backward, and the scores where they are wanted; else they are computed
// again from `previous` (on a device they are kept). Equal bits for any thread count. Throws Error{internal} for sizes
// and types that do not match, Error{config} for more keys. Source: He et al. 2021 (arXiv:2012.11747) for residual
// attention.
#pragma once

#include <optional>

#include "kernels/tape.h"

namespace farsight {

inline constexpr int64_t kDenseAttentionKeys = 1024;

struct DenseAttentionOptions {
  int64_t batch = 0, heads = 0;     // B, H
  std::optional<float> scale = {};  // empty: 1 / sqrt(D)
  bool scores = true;               // whether S is wanted; ask only where it has a consumer
};

struct DenseAttentionResult {
  Var out;
  Var scores;  // undefined unless asked for
};

DenseAttentionResult dense_attention(Tape& tape, const Var& q, const Var& k, const Var& v, const Var& previous,
                                     const DenseAttentionOptions& options);

}  // namespace farsight
