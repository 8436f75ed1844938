// SPDX-License-Identifier: Apache-2.0
#include "parallel/ring_attention.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/attention/block.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "parallel/ring_rotation.h"

namespace farsight {

namespace {

// Lets messages advance between attention tiles while it lives.
class ProgressScope {
 public:
  explicit ProgressScope(Communicator& ring) {
    set_attention_progress([](void* context) { static_cast<Communicator*>(context)->progress(); }, &ring);
  }
  ~ProgressScope() { set_attention_progress(nullptr, nullptr); }
  ProgressScope(const ProgressScope&) = delete;
  ProgressScope& operator=(const ProgressScope&) = delete;
};

// One attention over the ring: inputs, sizes, and what is saved for backward.
struct RingAttention {
  Communicator& ring;
  AttentionSpec spec;
  SequenceBatch batch;
  RingOptions options;
  Tensor q, k, v;
  std::vector<uint64_t> dropout_keys;
  SequenceRows own;  // rows of the queries
  RingGeometry geometry;
  Tensor out, lse, entropy;

  int64_t tokens() const { return batch.layout.count(ring.rank()); }
  int64_t width() const { return q.cols() / options.heads; }
  int64_t value_width() const { return v.cols() / options.kv_heads; }

  AttentionQueries queries() const;
  AttentionKeys keys(const Tensor& k_rows, const Tensor& v_rows, int64_t owner, const SequenceRows& rows) const;
  void forward();
  void forward_block(AttentionState& state, const Tensor& k_rows, const Tensor& v_rows, int64_t owner) const;
};

const int32_t* documents_of(const AttentionSpec& spec, const SequenceRows& rows) {
  return spec.documents ? rows.documents.data<int32_t>() : nullptr;
}

AttentionQueries RingAttention::queries() const {
  AttentionQueries result;
  result.q = q.data<float>();
  result.row_stride = q.row_stride();
  result.batch = batch.batch;
  result.tokens = tokens();
  result.heads = options.heads;
  result.width = width();
  result.positions = own.positions.data<int32_t>();
  result.documents = documents_of(spec, own);
  result.dropout_keys = spec.dropout > 0.0 ? dropout_keys.data() : nullptr;
  if (options.score_vectors != nullptr) result.score_vectors = options.score_vectors->value.data<float>();
  return result;
}

AttentionKeys RingAttention::keys(const Tensor& k_rows, const Tensor& v_rows, int64_t owner,
                                  const SequenceRows& rows) const {
  AttentionKeys result;
  result.k = k_rows.data<float>();
  result.v = v_rows.data<float>();
  result.k_stride = k_rows.row_stride();
  result.v_stride = v_rows.row_stride();
  result.tokens = batch.layout.count(owner);
  result.heads = options.kv_heads;
  result.width = width();
  result.value_width = value_width();
  result.positions = rows.positions.data<int32_t>();
  result.documents = documents_of(spec, rows);
  return result;
}

void RingAttention::forward_block(AttentionState& state, const Tensor& k_rows, const Tensor& v_rows,
                                  int64_t owner) const {
  if (tokens() == 0 || batch.layout.count(owner) == 0) return;
  const SequenceRows rows = batch.key_rows(owner);
  attention_forward_block(spec, queries(), keys(k_rows, v_rows, owner, rows), state);
}

void RingAttention::forward() {
  const ProgressScope scope(ring);
  AttentionState state = AttentionState::create(batch.batch, tokens(), options.heads, value_width(), spec.entropy);
  state.reset();
  if (geometry.hops == 0) {
    forward_block(state, k, v, ring.rank());
  } else {
    KeyRotation rotation(ring, geometry, k, v);
    for (int64_t s = 0; s <= geometry.hops; ++s) {
      rotation.start();
      const Tensor rows = rotation.current();
      forward_block(state, rows.narrow_last(0, k.cols()), rows.narrow_last(k.cols(), v.cols()),
                    geometry.owner(ring.rank(), s));
      rotation.finish();
    }
  }
  const Shape statistics{batch.batch, options.heads, tokens()};
  lse = Tensor::empty(statistics, DType::f32, MemoryTag::attention);
  if (spec.entropy) entropy = Tensor::empty(statistics, DType::f32, MemoryTag::attention);
  out = state.o.view({batch.batch * tokens(), options.heads * value_width()});
  attention_finish(state, out.data<float>(), out.row_stride(), lse.data<float>(),
                   spec.entropy ? entropy.data<float>() : nullptr);
}

// Where the gradient of an input is added to: its own buffer, or scratch if nobody wants it.
Tensor gradient_target(const Var& input) {
  if (!input.requires_grad()) return Tensor::zeros(input.value().shape());
  const Gradient gradient = input.begin_gradient();
  if (gradient.beta == 0.0F) gradient.tensor.fill_zero();
  return gradient.tensor;
}

// Adds columns [first_column, ...) of `from` to `to`.
void add_columns(const Tensor& from, int64_t first_column, const Tensor& to) {
  parallel_for(to.rows(), /*grain=*/64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = from.data<float>() + r * from.row_stride() + first_column;
      float* y = to.data<float>() + r * to.row_stride();
      for (int64_t c = 0; c < to.cols(); ++c) y[c] += x[c];
    }
  });
}

class RingBackward {
 public:
  RingBackward(const RingAttention& forward, const Tensor& dout, const Tensor& grad_entropy, Tensor dq)
      : f_(forward), dout_(dout), grad_entropy_(grad_entropy), dq_(std::move(dq)) {
    row_term_ = Tensor::empty(f_.lse.shape(), DType::f32, MemoryTag::attention);
    attention_backward_rows(f_.lse, f_.out.data<float>(), f_.out.row_stride(), dout_.data<float>(), dout_.row_stride(),
                            f_.value_width(), pointer(grad_entropy_), pointer(f_.entropy), nullptr,
                            row_term_.data<float>());
    if (f_.options.score_vectors != nullptr) f_.options.score_vectors->zero_if_fresh();
  }

  void run(const Tensor& dk, const Tensor& dv) {
    const ProgressScope scope(f_.ring);
    if (f_.geometry.hops == 0) {
      block(f_.k, f_.v, f_.ring.rank(), dk, dv);
    } else {
      rotate(dk, dv);
    }
  }

 private:
  static const float* pointer(const Tensor& t) { return t.defined() ? t.data<float>() : nullptr; }

  void rotate(const Tensor& dk, const Tensor& dv) {
    const int64_t k_columns = f_.k.cols();
    const int64_t v_columns = f_.v.cols();
    KeyRotation keys(f_.ring, f_.geometry, f_.k, f_.v);
    GradientRotation gradients(f_.ring, f_.geometry);
    for (int64_t s = 0; s <= f_.geometry.hops; ++s) {
      keys.start();
      gradients.start();
      const Tensor rows = keys.current();
      const Tensor d = gradients.contribution();
      block(rows.narrow_last(0, k_columns), rows.narrow_last(k_columns, v_columns),
            f_.geometry.owner(f_.ring.rank(), s), d.narrow_last(0, k_columns), d.narrow_last(k_columns, v_columns));
      keys.finish();
      gradients.finish();
    }
    const Tensor home = gradients.home();
    add_columns(home, 0, dk);
    add_columns(home, k_columns, dv);
  }

  void block(const Tensor& k_rows, const Tensor& v_rows, int64_t owner, const Tensor& dk, const Tensor& dv) {
    if (f_.tokens() == 0 || f_.batch.layout.count(owner) == 0) return;
    const SequenceRows rows = f_.batch.key_rows(owner);
    AttentionRowSaved saved;
    saved.lse = f_.lse.data<float>();
    saved.row_term = row_term_.data<float>();
    saved.grad_entropy = pointer(grad_entropy_);
    saved.dout = dout_.data<float>();
    saved.dout_stride = dout_.row_stride();
    AttentionGradients gradients;
    gradients.dq = dq_.data<float>();
    gradients.dq_stride = dq_.row_stride();
    gradients.dk = dk.data<float>();
    gradients.dk_stride = dk.row_stride();
    gradients.dv = dv.data<float>();
    gradients.dv_stride = dv.row_stride();
    if (f_.options.score_vectors != nullptr) gradients.dscore_vectors = f_.options.score_vectors->grad.data<float>();
    attention_backward_block(f_.spec, f_.queries(), f_.keys(k_rows, v_rows, owner, rows), saved, gradients);
  }

  const RingAttention& f_;
  Tensor dout_, grad_entropy_, dq_, row_term_;
};

void check(const Communicator& ring, const AttentionSpec& spec, const Var& q, const Var& k, const Var& v,
           const SequenceBatch& batch, const RingOptions& o) {
  batch.check();
  const int64_t rows = batch.batch * batch.layout.count(ring.rank());
  const bool whole = o.heads > 0 && o.kv_heads > 0 && o.heads % o.kv_heads == 0 && q.value().cols() % o.heads == 0 &&
                     v.value().cols() % o.kv_heads == 0 && k.value().cols() == q.value().cols() / o.heads * o.kv_heads;
  const bool sized = q.value().rank() == 2 && k.value().rank() == 2 && v.value().rank() == 2 &&
                     q.value().dim(0) == rows && k.value().dim(0) == rows && v.value().dim(0) == rows;
  if (batch.layout.owners() != ring.size() || !whole || !sized) {
    fail(ErrorKind::internal,
         "ring_attention: q {}, k {}, v {} with {} heads and {} key heads; rank {} of {} holds {} rows of a layout for "
         "{} owners",
         to_string(q.value().shape()), to_string(k.value().shape()), to_string(v.value().shape()), o.heads, o.kv_heads,
         ring.rank(), ring.size(), rows, batch.layout.owners());
  }
  if (spec.documents && !batch.documents.defined()) {
    fail(ErrorKind::internal, "ring_attention: the mask separates documents, but the batch has no document ids");
  }
  const bool additive = spec.score == AttentionScore::additive;
  if (additive != (o.score_vectors != nullptr)) {
    fail(ErrorKind::internal, "ring_attention: score vectors belong to the additive score and to no other");
  }
  if (additive)
    expect_shape("ring_attention", "score_vectors", o.score_vectors->value, {o.heads, q.value().cols() / o.heads});
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
  check(ring, spec, q, k, v, batch, options);
  auto a = std::make_shared<RingAttention>(
      RingAttention{ring,
                    spec,
                    batch,
                    options,
                    q.value(),
                    k.value(),
                    v.value(),
                    batch.keys(options.seed, options.step, options.layer, Site::attention),
                    batch.key_rows(ring.rank()),
                    {batch.batch, k.value().cols() + v.value().cols(), ring_hops(spec, batch.layout), batch.layout},
                    {},
                    {},
                    {}});
  a->forward();

  RingAttentionResult result;
  const bool parameters = options.score_vectors != nullptr;
  result.out = tape.variable(a->out, {q, k, v}, parameters);
  result.lse = a->lse;
  std::vector<Var> outs{result.out};
  if (spec.entropy) {
    result.entropy = tape.variable(a->entropy, {q, k, v}, parameters);
    outs.push_back(result.entropy);
  }
  tape.record(outs, {options.score_vectors}, [a, q, k, v, outs] {
    const Tensor grad_entropy = outs.size() > 1 ? outs[1].grad() : Tensor();
    RingBackward backward(*a, outs[0].grad(), grad_entropy, gradient_target(q));
    backward.run(gradient_target(k), gradient_target(v));
  });
  return result;
}

}  // namespace farsight
