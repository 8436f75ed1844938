// SPDX-License-Identifier: Apache-2.0
#include "parallel/ring_attention.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "parallel/attention_shard.h"
#include "parallel/ring_rotation.h"

namespace farsight {

namespace {

// One attention over the ring: inputs, sizes, and what is saved for backward.
struct RingAttention {
  Communicator& ring;
  AttentionShard shard;
  RingGeometry geometry;
  Tensor k, v, out;

  // The keys and values at this step, as columns of what travels or of its gradient.
  KeyBlock block(const Tensor& rows, int64_t step) const {
    return {rows.narrow_last(0, k.cols()), rows.narrow_last(k.cols(), v.cols()), geometry.owner(ring.rank(), step)};
  }
  KeyBlock own() const { return {k, v, ring.rank()}; }
  void forward();
  void compute();
  // Without neighbours: one block, whose gradients are written in place.
  void backward_alone(const Tensor& dout, const Tensor& grad_entropy, const Var& q_in, const Var& k_in,
                      const Var& v_in) const;
  void backward(const AttentionShardBackward& blocks, const Tensor& dk, const Tensor& dv) const;
};

void RingAttention::forward() {
  AttentionSaved* saved = shard.options.saved;
  if (saved != nullptr && saved->out.defined()) {
    out = saved->out;
    shard.lse = saved->lse.front();
    shard.entropy = saved->entropy.front();
    *saved = {};
    return;
  }
  compute();
  if (saved != nullptr) *saved = {out, {shard.lse}, {shard.entropy}};
}

void RingAttention::compute() {
  const ProgressScope scope(ring);
  const Shape shape{shard.q.rows(), shard.options.heads * shard.value_width};
  if (geometry.hops == 0 && shard.q.device() == Device::cuda) {  // the row state stays in registers
    out = Tensor::empty(shape, shard.q.dtype(), MemoryTag::attention);
    shard.attend(own(), out);
    return;
  }
  AttentionState state = shard.start();
  if (geometry.hops == 0) {
    shard.forward_block(state, own());
  } else {
    KeyRotation rotation(ring, geometry, k, v);
    for (int64_t s = 0; s <= geometry.hops; ++s) {
      rotation.start();
      shard.forward_block(state, block(rotation.current(), s));
      rotation.finish();
    }
  }
  out = shard.q.dtype() == DType::f32 ? state.o.view(shape) : Tensor::empty(shape, shard.q.dtype());
  shard.finish(state, out);
}

void RingAttention::backward_alone(const Tensor& dout, const Tensor& grad_entropy, const Var& q_in, const Var& k_in,
                                   const Var& v_in) const {
  const ProgressScope scope(ring);
  const Gradient dq = gradient_slot(q_in), dk = gradient_slot(k_in), dv = gradient_slot(v_in);
  const bool add_kv = dk.beta != 0.0F || dv.beta != 0.0F;
  if (add_kv && dk.beta == 0.0F) dk.tensor.fill_zero();
  if (add_kv && dv.beta == 0.0F) dv.tensor.fill_zero();
  const AttentionShardBackward block(shard, out, dout, grad_entropy, dq.tensor, /*several_blocks=*/false);
  block.only_block(own(), dk.tensor, dv.tensor, dq.beta != 0.0F, add_kv);
}

void RingAttention::backward(const AttentionShardBackward& blocks, const Tensor& dk, const Tensor& dv) const {
  const ProgressScope scope(ring);
  KeyRotation keys(ring, geometry, k, v);
  GradientRotation gradients(ring, geometry);
  for (int64_t s = 0; s <= geometry.hops; ++s) {
    keys.start();
    gradients.start();
    const KeyBlock d = block(gradients.contribution(), s);
    blocks.block(block(keys.current(), s), d.k, d.v);
    keys.finish();
    gradients.finish();
  }
  blocks.finish();
  const Tensor home = gradients.home();
  add_columns(home, 0, dk);
  add_columns(home, k.cols(), dv);
}

}  // namespace

int64_t ring_hops(const AttentionSpec& spec, const SequenceLayout& layout) {
  const int64_t all = layout.owners() - 1;
  if (!spec.causal || spec.window_left == kNoWindow || layout.order() != SequenceOrder::contiguous) return all;
  int64_t hops = 0;
  for (int64_t owner = 0; owner < layout.owners(); ++owner) {
    if (layout.count(owner) == 0) continue;
    const int64_t first_seen = std::max<int64_t>(0, layout.ranges(owner).front().begin - spec.window_left);
    hops = std::max(hops, owner - layout.owner_of(first_seen));
  }
  return hops;
}

RingAttentionResult ring_attention(Tape& tape, Communicator& ring, const AttentionSpec& spec, const Var& q,
                                   const Var& k, const Var& v, const SequenceBatch& batch, const RingOptions& options) {
  AttentionShard shard = make_attention_shard("ring_attention", ring, spec, q, k, v, batch, options);
  const RingGeometry geometry{batch.batch, k.value().cols() + v.value().cols(), ring_hops(spec, batch.layout),
                              batch.layout};
  auto a = std::make_shared<RingAttention>(RingAttention{ring, std::move(shard), geometry, k.value(), v.value(), {}});
  a->forward();

  RingAttentionResult result;
  const bool parameters = options.score_vectors != nullptr;
  result.out = tape.variable(a->out, {q, k, v}, parameters);
  result.lse = a->shard.lse;
  std::vector<Var> outs{result.out};
  if (spec.entropy) {
    result.entropy = tape.variable(a->shard.entropy, {q, k, v}, parameters);
    outs.push_back(result.entropy);
  }
  tape.record(outs, {options.score_vectors}, [a, q, k, v, outs] {
    const Tensor grad_entropy = outs.size() > 1 ? outs[1].grad() : Tensor();
    if (a->geometry.hops == 0) {
      a->backward_alone(outs[0].grad(), grad_entropy, q, k, v);
      return;
    }
    const AttentionShardBackward blocks(a->shard, a->out, outs[0].grad(), grad_entropy, gradient_target(q),
                                        /*several_blocks=*/true);
    a->backward(blocks, gradient_target(k), gradient_target(v));
  });
  return result;
}

}  // namespace farsight
