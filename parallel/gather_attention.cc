// SPDX-License-Identifier: Apache-2.0
#include "parallel/gather_attention.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "kernels/rows.h"
#include "parallel/attention_shard.h"
#include "parallel/key_gather.h"

namespace farsight {

namespace {

// Heads [first, first + count) of statistics [B, H, n], one row per sample.
Tensor heads_of(const Tensor& statistic, int64_t first, int64_t count) {
  const int64_t n = statistic.dim(2);
  return statistic.view({statistic.dim(0), statistic.dim(1) * n}).narrow_last(first * n, count * n);
}

Tensor flat(const Tensor& statistic) { return statistic.view({statistic.dim(0), statistic.dim(1) * statistic.dim(2)}); }

struct GatherAttention {
  Communicator& group;
  AttentionShard shard;  // all heads
  KeyTurns turns;
  Tensor k, v, out;
  std::vector<AttentionShard> parts;  // the heads of each turn, finished

  int64_t ratio() const { return shard.options.heads / shard.options.kv_heads; }
  int64_t first_head(int64_t turn) const { return turns.first_head(turn) * ratio(); }
  // Columns of the turn's query heads in a tensor [B*n, H * width].
  Tensor columns(const Tensor& t, int64_t turn) const;
  Tensor joined(Tensor AttentionShard::*statistic) const;
  Tensor part_of(const Tensor& statistic, int64_t turn) const;
  // Visits the blocks of a turn that has been started, the own one while the others arrive, and starts the next turn.
  template <typename Visit>
  void each_owner(KeyGather& keys, int64_t turn, Visit visit) const;
  void forward();
  void compute();
  void backward(const Tensor& dout, const Tensor& grad_entropy, const Tensor& dq, const Tensor& dk, const Tensor& dv);
};

Tensor GatherAttention::columns(const Tensor& t, int64_t turn) const {
  const int64_t width = t.cols() / shard.options.heads;
  return t.narrow_last(first_head(turn) * width, turns.heads(turn) * ratio() * width);
}

// [B, H, n] from the parts.
Tensor GatherAttention::joined(Tensor AttentionShard::*statistic) const {
  const Shape shape{shard.batch.batch, shard.options.heads, shard.tokens()};
  const Tensor whole = Tensor::empty(shape, DType::f32, MemoryTag::attention);
  for (size_t turn = 0; turn < parts.size(); ++turn) {
    const Tensor& part = parts[turn].*statistic;
    copy_rows(flat(part), heads_of(whole, first_head(static_cast<int64_t>(turn)), part.dim(1)));
  }
  return whole;
}

Tensor GatherAttention::part_of(const Tensor& statistic, int64_t turn) const {
  if (!statistic.defined()) return {};
  const Tensor part = Tensor::empty(parts[static_cast<size_t>(turn)].lse.shape(), DType::f32, MemoryTag::attention);
  copy_rows(heads_of(statistic, first_head(turn), part.dim(1)), flat(part));
  return part;
}

template <typename Visit>
void GatherAttention::each_owner(KeyGather& keys, int64_t turn, Visit visit) const {
  const int64_t ranks = group.size(), me = group.rank();
  visit(keys.block(turn, me));
  keys.finish();
  if (turn + 1 < turns.turns()) keys.start(turn + 1);
  for (int64_t step = 1; step < ranks; ++step) visit(keys.block(turn, (me + step) % ranks));
}

void GatherAttention::forward() {
  AttentionSaved* saved = shard.options.saved;
  if (saved != nullptr && saved->out.defined()) {
    out = saved->out;
    for (int64_t turn = 0; turn < turns.turns(); ++turn) {
      parts.push_back(shard.of_key_heads(turns.first_head(turn), turns.heads(turn)));
      parts.back().lse = saved->lse[static_cast<size_t>(turn)];
      parts.back().entropy = saved->entropy[static_cast<size_t>(turn)];
    }
    *saved = {};
    return;
  }
  compute();
  if (saved == nullptr) return;
  saved->out = out;
  for (const auto& part : parts) {
    saved->lse.push_back(part.lse);
    saved->entropy.push_back(part.entropy);
  }
}

void GatherAttention::compute() {
  const ProgressScope scope(group);
  KeyGather keys(group, turns, k, v);
  out = Tensor::empty({shard.q.rows(), shard.options.heads * shard.value_width}, shard.q.dtype(), MemoryTag::attention);
  keys.start(0);
  for (int64_t turn = 0; turn < turns.turns(); ++turn) {
    AttentionShard part = shard.of_key_heads(turns.first_head(turn), turns.heads(turn));
    AttentionState state = part.start();
    each_owner(keys, turn, [&](const KeyBlock& block) { part.forward_block(state, block); });
    part.finish(state, columns(out, turn));
    parts.push_back(std::move(part));
  }
}

void GatherAttention::backward(const Tensor& dout, const Tensor& grad_entropy, const Tensor& dq, const Tensor& dk,
                               const Tensor& dv) {
  const ProgressScope scope(group);
  KeyGather keys(group, turns, k, v);
  GradientScatter gradients(group, turns, dk, dv);
  keys.start(0);
  for (int64_t turn = 0; turn < turns.turns(); ++turn) {
    gradients.begin(turn);
    const AttentionShardBackward blocks(parts[static_cast<size_t>(turn)], columns(out, turn), columns(dout, turn),
                                        part_of(grad_entropy, turn), columns(dq, turn), /*several_blocks=*/true);
    each_owner(keys, turn, [&](const KeyBlock& block) {
      const KeyBlock d = gradients.block(turn, block.owner);
      blocks.block(block, d.k, d.v);
    });
    blocks.finish();
    gradients.start(turn);
  }
  gradients.finish();
}

}  // namespace

RingAttentionResult gather_attention(Tape& tape, Communicator& group, const AttentionSpec& spec, const Var& q,
                                     const Var& k, const Var& v, const SequenceBatch& batch, const RingOptions& options,
                                     int64_t gather_heads) {
  if (gather_heads < 0) fail(ErrorKind::internal, "gather_attention: {} heads at a time", gather_heads);
  AttentionShard shard = make_attention_shard("gather_attention", group, spec, q, k, v, batch, options);
  const int64_t stride = gather_heads == 0 ? options.kv_heads : std::min(gather_heads, options.kv_heads);
  const KeyTurns turns{batch.batch, options.kv_heads, stride, shard.width(), shard.value_width, batch.layout};
  auto a =
      std::make_shared<GatherAttention>(GatherAttention{group, std::move(shard), turns, k.value(), v.value(), {}, {}});
  a->forward();

  RingAttentionResult result;
  const bool parameters = options.score_vectors != nullptr;
  result.out = tape.variable(a->out, {q, k, v}, parameters);
  result.lse = a->joined(&AttentionShard::lse);
  std::vector<Var> outs{result.out};
  if (spec.entropy) {
    result.entropy = tape.variable(a->joined(&AttentionShard::entropy), {q, k, v}, parameters);
    outs.push_back(result.entropy);
  }
  tape.record(outs, {options.score_vectors}, [a, q, k, v, outs] {
    const Tensor grad_entropy = outs.size() > 1 ? outs[1].grad() : Tensor();
    a->backward(outs[0].grad(), grad_entropy, gradient_target(q), gradient_target(k), gradient_target(v));
  });
  return result;
}

}  // namespace farsight
