// SPDX-License-Identifier: Apache-2.0
// The part of an attention that one rank computes: its queries, for some of the heads, against blocks of keys that any
// owner may hold. What all context-parallel schemes share; they differ in how the keys get here. Internal to parallel/.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/block.h"
#include "kernels/attention/spec.h"
#include "kernels/tape.h"
#include "parallel/ring_attention.h"
#include "parallel/sequence_batch.h"

namespace farsight {

// Keys and values of one owner, [B * count(owner), Hkv * width] each; column views are allowed.
struct KeyBlock {
  Tensor k, v;
  int64_t owner = 0;
};

struct AttentionShard {
  AttentionSpec spec;   // of these heads
  SequenceBatch batch;  // any layout of which `owner` is a part
  int64_t owner = 0;    // holds the queries
  RingOptions options;  // of these heads
  Tensor q;             // [B*n, heads * D], maybe a column view
  int64_t value_width = 0;
  Tensor dropout_keys;  // i64 [B]; not defined() without dropout
  SequenceRows rows;    // of the queries
  Tensor lse, entropy;  // [B, heads, n], set by finish; entropy with spec.entropy only

  int64_t tokens() const { return batch.layout.count(owner); }
  int64_t width() const { return q.cols() / options.heads; }
  // The same queries, only the heads of these key heads, before `finish`.
  AttentionShard of_key_heads(int64_t first, int64_t count) const;

  // The whole attention where all keys are one block.
  void attend(const KeyBlock& keys, const Tensor& out);
  AttentionState start() const;
  // Merges a block into the state; nothing where either side has no tokens.
  void forward_block(AttentionState& state, const KeyBlock& keys) const;
  // Normalises into `out` [B*n, heads * Dv], which may be a column view or the memory of state.o.
  void finish(const AttentionState& state, const Tensor& out);

 private:
  void make_statistics();
};

// Checks the arguments of a scheme against the layout and builds the shard of all heads. Throws Error{internal} naming
// `operation`.
AttentionShard make_attention_shard(const char* operation, const Communicator& group, const AttentionSpec& spec,
                                    const Var& q, const Var& k, const Var& v, const SequenceBatch& batch,
                                    const RingOptions& options);

// Backward of a finished shard, block by block in any order.
class AttentionShardBackward {
 public:
  // out and dout [B*n, heads * Dv], grad_entropy [B, heads, n] or not defined; dq [B*n, heads * D] is added to. With
  // several blocks a dq in bf16 is rounded once, by finish(). The shard must outlive this.
  AttentionShardBackward(const AttentionShard& shard, const Tensor& out, Tensor dout, Tensor grad_entropy, Tensor dq,
                         bool several_blocks);
  // The only block: dq, dk and dv are written, or added to what is there.
  void only_block(const KeyBlock& keys, const Tensor& dk, const Tensor& dv, bool add_q, bool add_kv) const;
  // Adds to dk and dv, which are addressed like the keys; fp32 with several blocks, else of the type of dq.
  void block(const KeyBlock& keys, const Tensor& dk, const Tensor& dv) const;
  // After the last block.
  void finish() const;

 private:
  void compute(const KeyBlock& keys, AttentionGradients gradients) const;
  const AttentionShard& shard_;
  Tensor out_, dout_, grad_entropy_, dq_, row_term_;
  Tensor sum_;  // dq of all blocks where it is not added up in dq itself
};

// Lets messages advance between attention tiles while it lives.
class ProgressScope {
 public:
  explicit ProgressScope(Communicator& group);
  ~ProgressScope();
  ProgressScope(const ProgressScope&) = delete;
  ProgressScope& operator=(const ProgressScope&) = delete;
};

// Where the gradient of an input is added to: its own buffer, or scratch if nobody wants it.
Tensor gradient_target(const Var& input);
// The same where it may be written: beta == 0 then says so, and the memory holds nothing.
Gradient gradient_slot(const Var& input);

// to += columns [first_column, first_column + to.cols()) of from; rows may have a stride.
void add_columns(const Tensor& from, int64_t first_column, const Tensor& to);

// Columns [first_column, first_column + from.cols()) of the first from.rows() rows of to = from.
void copy_columns(const Tensor& from, const Tensor& to, int64_t first_column);

}  // namespace farsight
