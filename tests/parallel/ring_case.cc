// SPDX-License-Identifier: Apache-2.0
#include "tests/parallel/ring_case.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/error.h"
#include "kernels/parameter.h"

namespace farsight::testing {

namespace {

constexpr int64_t kBatch = 2, kWidth = 8, kValueWidth = 6;

std::vector<double> random_values(std::mt19937_64& generator, int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<double> values(static_cast<size_t>(count));
  for (double& v : values) v = static_cast<double>(normal(generator));
  return values;
}

AttentionSpec spec_of(RingFeature feature, int64_t heads) {
  AttentionSpec spec;
  spec.causal = feature != RingFeature::full;
  if (feature == RingFeature::window) spec.window_left = 20;
  spec.documents = feature == RingFeature::documents;
  if (feature == RingFeature::alibi) {
    for (int64_t h = 0; h < heads; ++h) spec.alibi_slopes.push_back(std::exp2(-static_cast<float>(h + 1)));
  }
  if (feature == RingFeature::dropout) spec.dropout = 0.1;
  spec.entropy = feature == RingFeature::entropy || feature == RingFeature::additive;
  if (feature == RingFeature::additive) spec.score = AttentionScore::additive;
  return spec;
}

// Three documents of uneven length; the second batch row is cut elsewhere.
int32_t document_of(int64_t row, int64_t position, int64_t tokens) {
  const int64_t first = tokens * (row + 1) / 5;
  const int64_t second = tokens * (row + 5) / 8;
  return static_cast<int32_t>(10 + (position >= first ? 1 : 0) + (position >= second ? 1 : 0));
}

// [rows of this owner, columns] from position order; `source` is [B, T, columns].
Tensor own_rows(const std::vector<double>& source, const SequenceLayout& layout, int64_t owner, int64_t columns) {
  const auto positions = layout.positions(owner);
  const auto n = static_cast<int64_t>(positions.size());
  Tensor rows = Tensor::empty({kBatch * n, columns});
  for (int64_t b = 0; b < kBatch; ++b) {
    for (int64_t i = 0; i < n; ++i) {
      const int64_t from = (b * layout.tokens() + positions[static_cast<size_t>(i)]) * columns;
      for (int64_t c = 0; c < columns; ++c) {
        rows.data<float>()[(b * n + i) * columns + c] = static_cast<float>(source[static_cast<size_t>(from + c)]);
      }
    }
  }
  return rows;
}

void store_rows(const Tensor& rows, const SequenceLayout& layout, int64_t owner, std::vector<double>& target) {
  const auto positions = layout.positions(owner);
  const auto n = static_cast<int64_t>(positions.size());
  const int64_t columns = rows.cols();
  for (int64_t r = 0; r < kBatch * n; ++r) {
    const int64_t to = (r / n * layout.tokens() + positions[static_cast<size_t>(r % n)]) * columns;
    for (int64_t c = 0; c < columns; ++c) {
      target[static_cast<size_t>(to + c)] = static_cast<double>(rows.data<float>()[r * rows.row_stride() + c]);
    }
  }
}

// visit(index in whole statistics [B, H, T], index in those of the result's heads and rows).
template <typename Visit>
void each_statistic(const RankResult& r, int64_t heads, int64_t tokens, Visit visit) {
  const auto n = static_cast<int64_t>(r.positions.size());
  for (int64_t row = 0; row < kBatch * r.heads; ++row) {
    const int64_t whole = row / r.heads * heads + r.first_head + row % r.heads;
    for (int64_t i = 0; i < n; ++i) {
      visit(static_cast<size_t>(whole * tokens + r.positions[static_cast<size_t>(i)]), row * n + i);
    }
  }
}

void store_statistics(const Tensor& s, const RankResult& r, const DenseAttention& d, std::vector<double>& target) {
  expect_shape("run_rank", "statistics", s, {kBatch, r.heads, static_cast<int64_t>(r.positions.size())});
  each_statistic(r, d.heads, d.queries,
                 [&](size_t whole, int64_t own) { target[whole] = static_cast<double>(s.data<float>()[own]); });
}

Tensor own_statistics(const std::vector<double>& source, const RankResult& r, const DenseAttention& d) {
  Tensor s = Tensor::empty({kBatch, r.heads, static_cast<int64_t>(r.positions.size())});
  each_statistic(r, d.heads, d.queries,
                 [&](size_t whole, int64_t own) { s.data<float>()[own] = static_cast<float>(source[whole]); });
  return s;
}

// A loss whose gradients are the given tensors: sum(out * dout) + sum(entropy * grad_entropy).
Var dot_loss(Tape& tape, const RankResult& r, const Tensor& dout, const Tensor& grad_entropy) {
  Var loss = tape.variable(Tensor::zeros({1}), {r.out, r.entropy.defined() ? r.entropy : r.out});
  tape.record(loss, {}, [r, dout, grad_entropy] {
    const auto give = [](const Var& v, const Tensor& gradient) {
      const Gradient g = v.begin_gradient();
      std::copy_n(gradient.data<float>(), gradient.numel(), g.tensor.data<float>());
    };
    give(r.out, dout);
    if (r.entropy.defined()) give(r.entropy, grad_entropy);
  });
  return loss;
}

Tensor join_columns(const std::vector<Tensor>& parts) {
  int64_t columns = 0;
  for (const auto& p : parts) columns += p.cols();
  Tensor whole = Tensor::empty({parts[0].dim(0), columns});
  int64_t first = 0;
  for (const auto& p : parts) {
    for (int64_t r = 0; r < p.dim(0); ++r) {
      std::copy_n(p.data<float>() + r * p.cols(), p.cols(), whole.data<float>() + r * columns + first);
    }
    first += p.cols();
  }
  return whole;
}

double magnitude(const std::vector<double>& values) {
  double largest = 0.0;
  for (const double v : values) largest = std::isinf(v) ? largest : std::max(largest, std::abs(v));
  return largest;
}

// Relative to the largest magnitude of `expected`, but at least `floor`.
double relative_error(const std::vector<double>& expected, const std::vector<double>& found, double floor) {
  double error = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isinf(expected[i])) {
      if (found[i] != expected[i]) return std::numeric_limits<double>::infinity();
      continue;
    }
    if (!std::isfinite(found[i])) return std::numeric_limits<double>::infinity();
    error = std::max(error, std::abs(expected[i] - found[i]));
  }
  return error / std::max(magnitude(expected), floor);
}

}  // namespace

const char* name_of(RingFeature feature) {
  switch (feature) {
    case RingFeature::full:
      return "full";
    case RingFeature::causal:
      return "causal";
    case RingFeature::window:
      return "window";
    case RingFeature::documents:
      return "documents";
    case RingFeature::alibi:
      return "alibi";
    case RingFeature::dropout:
      return "dropout";
    case RingFeature::entropy:
      return "entropy";
    case RingFeature::additive:
      return "additive";
  }
  return "?";
}

RingCase make_ring_case(RingFeature feature, int64_t tokens, int64_t heads, int64_t kv_heads, uint64_t seed) {
  std::mt19937_64 generator(seed);
  RingCase c;
  DenseAttention& d = c.dense;
  d.spec = spec_of(feature, heads);
  d.batch = kBatch;
  d.queries = d.keys = tokens;
  d.heads = heads;
  d.kv_heads = kv_heads;
  d.width = kWidth;
  d.value_width = kValueWidth;
  d.q = random_values(generator, kBatch * tokens * heads * kWidth);
  d.k = random_values(generator, kBatch * tokens * kv_heads * kWidth);
  d.v = random_values(generator, kBatch * tokens * kv_heads * kValueWidth);
  c.dout = random_values(generator, kBatch * tokens * heads * kValueWidth);
  c.grad_entropy = d.spec.entropy ? random_values(generator, kBatch * heads * tokens)
                                  : std::vector<double>(static_cast<size_t>(kBatch * heads * tokens), 0.0);
  if (feature == RingFeature::additive) d.y = random_values(generator, heads * kWidth);
  c.batch.batch = kBatch;
  c.batch.layout = SequenceLayout(SequenceOrder::contiguous, tokens, 1);
  c.batch.documents = Tensor::empty({kBatch, tokens}, DType::i32);
  for (int64_t r = 0; r < kBatch * tokens; ++r) {
    d.query_positions.push_back(static_cast<int32_t>(r % tokens));
    d.query_documents.push_back(document_of(r / tokens, r % tokens, tokens));
    c.batch.documents.data<int32_t>()[r] = d.query_documents.back();
  }
  d.key_positions = d.query_positions;
  d.key_documents = d.query_documents;
  c.batch.samples = {41, 1000000007};
  d.dropout_keys = c.batch.keys(c.seed, c.step, c.layer, Site::attention);
  return c;
}

RingNumbers empty_numbers(const RingCase& c) {
  const DenseAttention& d = c.dense;
  RingNumbers n;
  n.out.assign(c.dout.size(), 0.0);
  n.lse.assign(static_cast<size_t>(d.rows()), 0.0);
  n.entropy.assign(static_cast<size_t>(d.rows()), 0.0);
  n.dq.assign(d.q.size(), 0.0);
  n.dk.assign(d.k.size(), 0.0);
  n.dv.assign(d.v.size(), 0.0);
  n.dy.assign(d.y.size(), 0.0);
  return n;
}

namespace {

void store_gradients(const Tensor& g, const DenseAttention& d, const SequenceLayout& layout, int64_t owner,
                     RingNumbers& numbers) {
  const int64_t q_columns = d.heads * kWidth, k_columns = d.kv_heads * kWidth;
  store_rows(g.narrow_last(0, q_columns), layout, owner, numbers.dq);
  store_rows(g.narrow_last(q_columns, k_columns), layout, owner, numbers.dk);
  store_rows(g.narrow_last(q_columns + k_columns, d.kv_heads * kValueWidth), layout, owner, numbers.dv);
}

Parameter* add_score_vectors(ParameterStore& store, const DenseAttention& d) {
  if (d.y.empty()) return nullptr;
  Parameter* vectors = &store.add("score", {d.heads, kWidth}, {});
  store.allocate();
  for (size_t i = 0; i < d.y.size(); ++i) vectors->value.data<float>()[i] = static_cast<float>(d.y[i]);
  store.begin_gradients();
  return vectors;
}

void store_score_vectors(Communicator& group, const Tensor& gradient, const RankResult& r, RingNumbers& numbers) {
  for (int64_t i = 0; i < gradient.numel(); ++i) {
    const int64_t head = i / kWidth;
    const bool own = r.first_head <= head && head < r.first_head + r.heads;
    if (!own && gradient.data<float>()[i] != 0.0F) {
      fail(ErrorKind::internal, "score vector of head {} has a gradient on a rank of other heads", head);
    }
  }
  group.all_reduce(gradient.span<float>(), ReduceOp::sum);
  if (group.rank() == 0) std::copy_n(gradient.data<float>(), gradient.numel(), numbers.dy.data());
}

}  // namespace

void run_rank(Communicator& group, const RingCase& c, const SequenceLayout& layout,
              const std::function<RankResult(const RankCall&)>& attend, RingNumbers& numbers) {
  const DenseAttention& d = c.dense;
  const int64_t owner = group.rank();
  SequenceBatch batch = c.batch;
  batch.layout = layout;
  ParameterStore store;
  Parameter* const vectors = add_score_vectors(store, d);
  Tape tape;
  const Var qkv = tape.input(
      join_columns({own_rows(d.q, layout, owner, d.heads * kWidth), own_rows(d.k, layout, owner, d.kv_heads * kWidth),
                    own_rows(d.v, layout, owner, d.kv_heads * kValueWidth)}),
      /*requires_grad=*/true);
  const auto parts = tape.split_last(qkv, {d.heads * kWidth, d.kv_heads * kWidth, d.kv_heads * kValueWidth});
  RingOptions options;
  options.heads = d.heads;
  options.kv_heads = d.kv_heads;
  options.seed = c.seed;
  options.step = c.step;
  options.layer = c.layer;
  options.score_vectors = vectors;
  const RankResult result = attend({tape, d.spec, parts[0], parts[1], parts[2], batch, options});
  store_rows(result.out.value(), layout, owner, numbers.out);
  if (result.lse.defined()) store_statistics(result.lse, result, d, numbers.lse);
  if (d.spec.entropy) store_statistics(result.entropy.value(), result, d, numbers.entropy);

  tape.backward(dot_loss(tape, result, own_rows(c.dout, layout, owner, d.heads * kValueWidth),
                         own_statistics(c.grad_entropy, result, d)));
  store_gradients(qkv.grad(), d, layout, owner, numbers);
  if (vectors != nullptr) store_score_vectors(group, vectors->grad, result, numbers);
}

void run_ring(Communicator& ring, const RingCase& c, const SequenceLayout& layout, RingNumbers& numbers) {
  const auto attend = [&](const RankCall& call) {
    const auto r = ring_attention(call.tape, ring, call.spec, call.q, call.k, call.v, call.batch, call.options);
    return RankResult{r.out, r.entropy, r.lse, 0, c.dense.heads, layout.positions(ring.rank())};
  };
  run_rank(ring, c, layout, attend, numbers);
}

RingNumbers dense_numbers(const RingCase& c) {
  const DenseForward f = dense_forward(c.dense);
  const std::vector<double> no_lse_gradient(f.lse.size(), 0.0);
  const DenseGradients g = dense_backward(c.dense, f, c.dout, no_lse_gradient, c.grad_entropy);
  return {f.out, f.lse, c.dense.spec.entropy ? f.entropy : std::vector<double>(f.entropy.size(), 0.0), g.dq, g.dk,
          g.dv,  g.dy};
}

RingErrors compare(const RingNumbers& dense, const RingNumbers& n) {
  // Some gradients are zero in theory: differences of terms of the size of the others.
  const double floor = 0.1 * std::max({magnitude(dense.dq), magnitude(dense.dk), magnitude(dense.dv), 1e-30});
  RingErrors e;
  e.forward = std::max(relative_error(dense.out, n.out, floor), relative_error(dense.entropy, n.entropy, floor));
  if (!n.lse.empty()) e.forward = std::max(e.forward, relative_error(dense.lse, n.lse, floor));
  e.backward = std::max({relative_error(dense.dq, n.dq, floor), relative_error(dense.dk, n.dk, floor),
                         relative_error(dense.dv, n.dv, floor), relative_error(dense.dy, n.dy, floor)});
  return e;
}

}  // namespace farsight::testing
