// SPDX-License-Identifier: Apache-2.0
// Blockwise attention on one rank: one call merges one block of keys into the row state of a block of queries. One
// device = one call; a ring = one call per arriving key block; any order of calls gives the same result up to rounding.
// Positions and document ids are global, so a shard masks exactly as the whole sequence would.
//
//   AttentionState state = AttentionState::create(...);  state.reset();
//   for (each key block) attention_forward_block(spec, rows_q, rows_k, state);
//   attention_finish(state, out, lse, entropy);
//
// Notation: B batch rows, Tq / Tk query / key rows of this block, H / Hkv heads (Hkv divides H), D score width,
// Dv value width. Row statistics are fp32 and natural logarithms.
// Source: Dao et al. 2022 (arXiv:2205.14135), Liu et al. 2023 (arXiv:2310.01889); row state with entropy: attention
// specification, section 3.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernels/attention/spec.h"
#include "kernels/tensor.h"

namespace farsight {

// Query rows. Element (b, t, h, d) of q is q[(b * tokens + t) * row_stride + h * width + d].
struct AttentionQueries {
  const float* q = nullptr;
  int64_t row_stride = 0;
  int64_t batch = 0, tokens = 0, heads = 0, width = 0;  // B, Tq, H, D
  const int32_t* positions = nullptr;                   // [B, Tq] global index in the packed row, >= 0
  const int32_t* documents = nullptr;                   // [B, Tq]; may be null when !spec.documents
  const uint64_t* dropout_keys = nullptr;               // [B] site_key of each sample; null when spec.dropout == 0
  const float* score_vectors = nullptr;                 // [H, D] y of the additive score; null otherwise
  int64_t first_head = 0;  // global index of head 0 where heads are sharded: dropout draws by global head
};

// Key and value rows; k and v have their own row strides: element (b, t, h, d) of k is k[(b * tokens + t) * k_stride +
// h * width + d].
struct AttentionKeys {
  const float* k = nullptr;
  const float* v = nullptr;
  int64_t k_stride = 0, v_stride = 0;
  int64_t tokens = 0, heads = 0, width = 0, value_width = 0;  // Tk, Hkv, D, Dv
  const int32_t* positions = nullptr;                         // [B, Tk]
  const int32_t* documents = nullptr;                         // [B, Tk]
};

// Mergeable row state: m = max s, l = sum e^{s-m}, u = sum e^{s-m}(s-m) (only with spec.entropy), o = sum e^{s-m} w v.
struct AttentionState {
  Tensor m, l, u;  // [B, H, Tq]
  Tensor o;        // [B, Tq, H, Dv], not normalised
  static AttentionState create(int64_t batch, int64_t tokens, int64_t heads, int64_t value_width, bool entropy);
  void reset() const;  // m = -inf, the rest 0
};

// Merges the keys into the state. Tiles that the mask empties are not computed. Deterministic for any thread count.
// Throws Error{internal} for inconsistent sizes, Error{config} for a policy combination that is not available.
void attention_forward_block(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                             AttentionState& state);

// Normalises once after the last block: out [B, Tq, H, Dv] with row stride out_stride, lse [B, H, Tq], entropy [B, H,
// Tq] (null unless spec.entropy). A row that saw no key: out = 0, lse = -inf, entropy = 0. out may alias state.o.
void attention_finish(const AttentionState& state, float* out, int64_t out_stride, float* lse, float* entropy);

// What backward needs per query row, computed once from the final output:
// row_term = dout . out - gL + gH H   (gH, gL null = 0), [B, H, Tq]; 0 for rows with lse = -inf. This is D' of the
// specification plus gH LSE: tiles form -gH (s - LSE) - row_term, so that s and LSE meet before they are multiplied.
void attention_backward_rows(const Tensor& lse, const float* out, int64_t out_stride, const float* dout,
                             int64_t dout_stride, int64_t value_width, const float* grad_entropy, const float* entropy,
                             const float* grad_lse, float* row_term);

struct AttentionRowSaved {
  const float* lse = nullptr;           // [B, H, Tq]
  const float* row_term = nullptr;      // of attention_backward_rows [B, H, Tq]
  const float* grad_entropy = nullptr;  // gH [B, H, Tq], null = 0
  const float* dout = nullptr;          // like queries, width Dv
  int64_t dout_stride = 0;
};

// Adds this block's contributions to dq (addressed like q with dq_stride), dk [.. dk_stride], dv [.. dv_stride], and to
// dscore_vectors [H, D] for the additive score. All fp32, all added to: the caller zeroes them. Deterministic for any
// thread count. Rows with lse = -inf contribute nothing.
struct AttentionGradients {
  float* dq = nullptr;
  int64_t dq_stride = 0;
  float* dk = nullptr;
  int64_t dk_stride = 0;
  float* dv = nullptr;
  int64_t dv_stride = 0;
  float* dscore_vectors = nullptr;
};
void attention_backward_block(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                              const AttentionRowSaved& saved, const AttentionGradients& gradients);

// Polled between tiles on the calling thread so that message passing makes progress while tiles are computed; set by
// parallel. Null = none. Per calling thread.
using ProgressHook = void (*)(void* context);
void set_attention_progress(ProgressHook hook, void* context);

// Tiles computed by calls of this thread, for tests and reports; null = not counted. A tile is counted once per head,
// as full where no pair was masked; empty tiles are not computed and not counted.
struct AttentionTileCount {
  std::atomic<int64_t> full{0}, partial{0};
};
void set_attention_tile_count(AttentionTileCount* count);

}  // namespace farsight
