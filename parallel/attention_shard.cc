// SPDX-License-Identifier: Apache-2.0
#include "parallel/attention_shard.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "kernels/rows.h"

namespace farsight {

namespace {

AttentionQueries queries_of(const AttentionShard& shard) {
  AttentionQueries result;
  result.q = shard.q;
  result.batch = shard.batch.batch;
  result.tokens = shard.tokens();
  result.heads = shard.options.heads;
  result.width = shard.width();
  result.positions = shard.rows.positions;
  result.documents = shard.rows.documents;
  result.runs = shard.rows.runs;
  result.packed = shard.rows.packed;
  result.dropout_keys = shard.dropout_keys;
  result.first_head = shard.options.first_head;
  if (const Parameter* y = shard.options.score_vectors; y != nullptr) {
    result.score_vectors = y->value.narrow(shard.options.first_vector, shard.options.heads);
  }
  return result;
}

AttentionKeys keys_of(const AttentionShard& shard, const KeyBlock& keys) {
  const SequenceRows rows = shard.batch.device_rows(keys.owner);
  return {keys.k,
          keys.v,
          shard.batch.layout.count(keys.owner),
          shard.options.kv_heads,
          shard.width(),
          shard.value_width,
          rows.positions,
          rows.documents,
          rows.runs};
}

bool empty(const AttentionShard& shard, const KeyBlock& keys) {
  return shard.tokens() == 0 || shard.batch.layout.count(keys.owner) == 0;
}

void check_shapes(const char* operation, const Communicator& group, const Var& q, const Var& k, const Var& v,
                  const SequenceBatch& batch, const RingOptions& o) {
  const int64_t rows = batch.batch * batch.layout.count(group.rank());
  const bool whole = o.heads > 0 && o.kv_heads > 0 && o.heads % o.kv_heads == 0 && q.value().cols() % o.heads == 0 &&
                     v.value().cols() % o.kv_heads == 0 && k.value().cols() == q.value().cols() / o.heads * o.kv_heads;
  const bool sized = q.value().rank() == 2 && k.value().rank() == 2 && v.value().rank() == 2 &&
                     q.value().dim(0) == rows && k.value().dim(0) == rows && v.value().dim(0) == rows;
  if (whole && sized) return;
  fail(ErrorKind::internal,
       "{}: q {}, k {}, v {} with {} heads and {} key heads; rank {} of {} holds {} rows of a layout for {} owners",
       operation, to_string(q.value().shape()), to_string(k.value().shape()), to_string(v.value().shape()), o.heads,
       o.kv_heads, group.rank(), group.size(), rows, batch.layout.owners());
}

void check_policies(const char* operation, const AttentionSpec& spec, const Var& q, const SequenceBatch& batch,
                    const RingOptions& o) {
  if (spec.documents && !batch.documents.defined()) {
    fail(ErrorKind::internal, "{}: the mask separates documents, but the batch has no document ids", operation);
  }
  if (!spec.alibi_slopes.empty() && static_cast<int64_t>(spec.alibi_slopes.size()) != o.heads) {
    fail(ErrorKind::internal, "{}: {} ALiBi slopes for {} heads", operation, spec.alibi_slopes.size(), o.heads);
  }
  if ((spec.score == AttentionScore::additive) != (o.score_vectors != nullptr)) {
    fail(ErrorKind::internal, "{}: score vectors belong to the additive score and to no other", operation);
  }
  if (o.score_vectors == nullptr) return;
  const Tensor& y = o.score_vectors->value;
  if (y.rank() != 2 || y.dim(1) != q.value().cols() / o.heads || y.dim(0) < o.first_vector + o.heads) {
    fail(ErrorKind::internal, "{}: score vectors {} for heads {} to {} of width {}", operation, to_string(y.shape()),
         o.first_vector, o.first_vector + o.heads - 1, q.value().cols() / o.heads);
  }
}

}  // namespace

AttentionShard AttentionShard::of_key_heads(int64_t first, int64_t count) const {
  const int64_t ratio = options.heads / options.kv_heads;
  AttentionShard part = *this;
  part.options.heads = count * ratio;
  part.options.kv_heads = count;
  part.options.first_head += first * ratio;
  part.options.first_vector += first * ratio;
  part.q = q.narrow_last(first * ratio * width(), count * ratio * width());
  if (!spec.alibi_slopes.empty()) {
    const auto begin = spec.alibi_slopes.begin() + first * ratio;
    part.spec.alibi_slopes.assign(begin, begin + count * ratio);
  }
  return part;
}

AttentionState AttentionShard::start() const {
  AttentionState state = AttentionState::create(batch.batch, tokens(), options.heads, value_width, spec.entropy);
  state.reset();
  return state;
}

void AttentionShard::forward_block(AttentionState& state, const KeyBlock& keys) const {
  if (empty(*this, keys)) return;
  attention_forward_block(spec, queries_of(*this), keys_of(*this, keys), state);
}

void AttentionShard::make_statistics() {
  const Shape statistics{batch.batch, options.heads, tokens()};
  lse = Tensor::empty(statistics, DType::f32, MemoryTag::attention);
  if (spec.entropy) entropy = Tensor::empty(statistics, DType::f32, MemoryTag::attention);
}

void AttentionShard::attend(const KeyBlock& keys, const Tensor& out) {
  make_statistics();
  attention_forward(spec, queries_of(*this), keys_of(*this, keys), out, lse, entropy);
}

void AttentionShard::finish(const AttentionState& state, const Tensor& out) {
  make_statistics();
  attention_finish(state, out, lse, entropy);
}

AttentionShard make_attention_shard(const char* operation, const Communicator& group, const AttentionSpec& spec,
                                    const Var& q, const Var& k, const Var& v, const SequenceBatch& batch,
                                    const RingOptions& options) {
  batch.check();
  if (batch.layout.owners() != group.size()) {
    fail(ErrorKind::internal, "{}: a layout for {} owners on {} ranks of axis {}", operation, batch.layout.owners(),
         group.size(), group.name());
  }
  check_shapes(operation, group, q, k, v, batch, options);
  check_policies(operation, spec, q, batch, options);
  AttentionShard shard;
  shard.spec = spec;
  shard.batch = batch;
  shard.owner = group.rank();
  shard.options = options;
  shard.q = q.value();
  shard.value_width = v.value().cols() / options.kv_heads;
  if (spec.dropout > 0.0) {
    const auto keys = batch.keys(options.seed, options.step, options.layer, Site::attention);
    shard.dropout_keys = device_copy({reinterpret_cast<const int64_t*>(keys.data()), keys.size()});
  }
  shard.rows = batch.device_rows(shard.owner);
  return shard;
}

AttentionShardBackward::AttentionShardBackward(const AttentionShard& shard, const Tensor& out, Tensor dout,
                                               Tensor grad_entropy, Tensor dq, bool several_blocks)
    : shard_(shard), out_(out), dout_(std::move(dout)), grad_entropy_(std::move(grad_entropy)), dq_(std::move(dq)) {
  row_term_ = Tensor::empty(shard.lse.shape(), DType::f32, MemoryTag::attention);
  attention_backward_rows(shard.lse, out, dout_, shard.value_width, grad_entropy_, shard.entropy, {}, row_term_);
  if (several_blocks && dq_.dtype() != DType::f32) sum_ = Tensor::zeros(dq_.shape(), DType::f32, MemoryTag::attention);
  if (shard.options.score_vectors != nullptr) shard.options.score_vectors->zero_if_fresh();
}

void AttentionShardBackward::finish() const {
  if (sum_.defined()) add_rows(sum_, dq_);
}

void AttentionShardBackward::block(const KeyBlock& keys, const Tensor& dk, const Tensor& dv) const {
  if (!empty(shard_, keys)) compute(keys, {sum_.defined() ? sum_ : dq_, dk, dv, {}});
}

void AttentionShardBackward::only_block(const KeyBlock& keys, const Tensor& dk, const Tensor& dv, bool add_q,
                                        bool add_kv) const {
  compute(keys, {dq_, dk, dv, {}, add_q, add_kv});
}

void AttentionShardBackward::compute(const KeyBlock& keys, AttentionGradients gradients) const {
  if (Parameter* const y = shard_.options.score_vectors; y != nullptr) {
    gradients.dscore_vectors = y->grad.narrow(shard_.options.first_vector, shard_.options.heads);
  }
  attention_backward_block(shard_.spec, queries_of(shard_), keys_of(shard_, keys),
                           {shard_.lse, row_term_, grad_entropy_, dout_, out_}, gradients);
}

ProgressScope::ProgressScope(Communicator& group) {
  set_attention_progress([](void* context) { static_cast<Communicator*>(context)->progress(); }, &group);
}

ProgressScope::~ProgressScope() { set_attention_progress(nullptr, nullptr); }

Gradient gradient_slot(const Var& input) {
  if (!input.requires_grad()) return {Tensor::empty(input.shape(), input.value().dtype()), 0.0F};
  return input.begin_gradient();
}

Tensor gradient_target(const Var& input) {
  const Gradient gradient = gradient_slot(input);
  if (gradient.beta == 0.0F) gradient.tensor.fill_zero();
  return gradient.tensor;
}

void add_columns(const Tensor& from, int64_t first_column, const Tensor& to) {
  add_rows(from.narrow(0, to.rows()).narrow_last(first_column, to.cols()), to);
}

void copy_columns(const Tensor& from, const Tensor& to, int64_t first_column) {
  copy_rows(from, to.narrow(0, from.rows()).narrow_last(first_column, from.cols()));
}

}  // namespace farsight
