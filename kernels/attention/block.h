// SPDX-License-Identifier: Apache-2.0
// Blockwise attention on one rank: one call merges one block of keys into the row state of a block of queries. One
// device = one call; a ring = one call per arriving key block; any order of calls gives the same result up to rounding.
// Positions and document ids are global, so a shard masks exactly as the whole sequence would.
//
//   AttentionState state = AttentionState::create(...);  state.reset();
//   for (each key block) attention_forward_block(spec, rows_q, rows_k, state);
//   attention_finish(state, out, lse, entropy);       // or, for a single block, attention_forward
//
// Notation: B batch rows, Tq / Tk query / key rows of this block, H / Hkv heads (Hkv divides H), D score width,
// Dv value width. Row statistics are fp32 and natural logarithms.
// Source: Dao et al. 2022 (arXiv:2205.14135), Liu et al. 2023 (arXiv:2310.01889); row state with entropy: attention
// specification, section 3.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "kernels/attention/sdpa_rects.h"
#include "kernels/attention/spec.h"
#include "kernels/tensor.h"

namespace farsight {

// Documents that lie end to end in rows that hold all their queries and keys, where the host knows them.
struct PackedDocuments {
  Tensor starts;        // i32 [slots + 1] on the device: document n is rows [starts[n], starts[n + 1])
  int64_t slots = 0;    // documents, empty ones at the end included
  int64_t longest = 0;  // at least the tokens of the longest
};

// Query rows: row b * tokens + t of q holds query t of sample b, its columns [h * width, (h + 1) * width) are head h.
// All tensors lie on one device; q may be a column view. On the CPU it is fp32, on a device fp32 or bf16.
struct AttentionQueries {
  Tensor q;                                             // [B * Tq, H * D]
  int64_t batch = 0, tokens = 0, heads = 0, width = 0;  // B, Tq, H, D
  Tensor positions;                                     // i32 [B * Tq] global index in the packed row, >= 0
  Tensor documents;                                     // i32 [B * Tq]; not read when !spec.documents
  Tensor dropout_keys;                                  // i64 [B] site_key of each sample; not read without dropout
  Tensor score_vectors;                                 // [H, D] y of the additive score; not read otherwise
  int64_t first_head = 0;              // global index of head 0 where heads are sharded: dropout draws by global head
  std::vector<PositionRun> runs = {};  // of the positions, the same in every sample; empty: not told
  PackedDocuments packed = {};         // of queries and keys, when these are the same rows; slots == 0: not told
};

// Key and value rows in the same way, of the type of q.
struct AttentionKeys {
  Tensor k, v;                                                // [B * Tk, Hkv * D], [B * Tk, Hkv * Dv]
  int64_t tokens = 0, heads = 0, width = 0, value_width = 0;  // Tk, Hkv, D, Dv
  Tensor positions, documents;                                // i32 [B * Tk]
  std::vector<PositionRun> runs = {};
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

// Normalises once after the last block: out [B * Tq, H * Dv] of the type of q, lse [B, H, Tq], entropy [B, H, Tq] (not
// defined() unless spec.entropy). A row that saw no key: out = 0, lse = -inf, entropy = 0. out may be a column view, or
// the memory of state.o.
void attention_finish(const AttentionState& state, const Tensor& out, const Tensor& lse, const Tensor& entropy);

// Both for keys that are one block: what reset(), attention_forward_block and attention_finish give, where possible
// without a state in memory.
void attention_forward(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                       const Tensor& out, const Tensor& lse, const Tensor& entropy);

// What backward needs per query row, computed once from the final output:
// row_term = dout . out - gL + gH H   (gH, gL not defined() = 0), [B, H, Tq]; 0 for rows with lse = -inf. This is D' of
// the specification plus gH LSE: tiles form -gH (s - LSE) - row_term, so that s and LSE meet before they are
// multiplied. out and dout [B * Tq, H * value_width], maybe column views; statistics fp32 [B, H, Tq].
void attention_backward_rows(const Tensor& lse, const Tensor& out, const Tensor& dout, int64_t value_width,
                             const Tensor& grad_entropy, const Tensor& entropy, const Tensor& grad_lse,
                             const Tensor& row_term);

struct AttentionRowSaved {
  Tensor lse;           // [B, H, Tq]
  Tensor row_term;      // of attention_backward_rows [B, H, Tq]
  Tensor grad_entropy;  // gH [B, H, Tq], not defined() = 0
  Tensor dout;          // [B * Tq, H * Dv]
  Tensor out = {};  // of the whole attention, where row_term is dout . out and nothing else; not defined() = unknown
};

// This block's contributions to dq (laid out like q), dk, dv (like k, v), and dscore_vectors [H, D] fp32 of the
// additive score. Written over, or added to what is there; dscore_vectors are always added to. dq, dk and dv have one
// type: fp32, or on a device that of q. Deterministic for any thread count. Rows with lse = -inf contribute nothing.
struct AttentionGradients {
  Tensor dq, dk, dv;
  Tensor dscore_vectors;
  bool add_q = true, add_kv = true;
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
