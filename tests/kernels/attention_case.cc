// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/attention_case.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "kernels/attention/block.h"
#include "kernels/bfloat16.h"
#include "kernels/rows.h"

namespace farsight::testing {
namespace {

int64_t pick(Generator& g, int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(g); }
bool chance(Generator& g, double p) { return std::bernoulli_distribution(p)(g); }

std::vector<double> normals(Generator& g, int64_t n, double deviation = 1.0) {
  std::normal_distribution<double> draw(0.0, deviation);
  std::vector<double> values(static_cast<size_t>(n));
  for (double& x : values) x = static_cast<double>(static_cast<float>(draw(g)));
  return values;
}

int64_t random_width(Generator& g) {
  static constexpr int64_t kCommon[] = {8, 16, 32, 48, 64, 80, 96, 128, 256};
  if (chance(g, 0.4)) return kCommon[pick(g, 0, 8)];
  return chance(g, 0.8) ? pick(g, 1, 40) : pick(g, 41, 256);
}

AttentionSpec random_spec(Generator& g, int64_t heads, int64_t width, int64_t span) {
  AttentionSpec spec;
  spec.score = chance(g, 0.3) ? AttentionScore::additive : AttentionScore::scaled_dot;
  // Not more than the default: the rounding of a score, about |s| sqrt(D) 2^-24, bounds the accuracy of the weights.
  if (chance(g, 0.2)) spec.scale = static_cast<float>(0.7 / std::sqrt(static_cast<double>(width)));
  spec.causal = chance(g, 0.6);
  if (chance(g, 0.3)) spec.window_left = static_cast<int32_t>(pick(g, 0, span));
  if (chance(g, 0.3)) spec.window_right = static_cast<int32_t>(pick(g, 0, span));
  spec.documents = chance(g, 0.4);
  if (chance(g, 0.3)) {
    for (int64_t h = 0; h < heads; ++h) spec.alibi_slopes.push_back(std::ldexp(1.0F, static_cast<int>(-4 - h)));
  }
  if (chance(g, 0.4)) spec.dropout = chance(g, 0.5) ? 0.1 : 0.5;
  spec.entropy = chance(g, 0.5);
  return spec;
}

// `count` positions of a row of `span` tokens: a slice, every n-th, two chunks, or any subset; sometimes shuffled.
std::vector<int32_t> random_positions(Generator& g, int64_t count, int64_t span) {
  std::vector<int32_t> all(static_cast<size_t>(span));
  std::iota(all.begin(), all.end(), 0);
  const int64_t kind = pick(g, 0, 3);
  if (kind == 1) std::stable_partition(all.begin(), all.end(), [](int32_t p) { return p % 3 == 1; });
  if (kind == 2) std::rotate(all.begin(), all.begin() + count / 2, all.end() - count / 3);
  if (kind == 3) std::shuffle(all.begin(), all.end(), g);
  const int64_t first = kind == 0 ? pick(g, 0, span - count) : 0;
  std::vector<int32_t> chosen(all.begin() + first, all.begin() + first + count);
  if (chance(g, 0.2)) std::shuffle(chosen.begin(), chosen.end(), g);
  return chosen;
}

std::vector<int32_t> documents_by_position(Generator& g, int64_t span) {
  std::vector<int32_t> ids(static_cast<size_t>(span));
  int32_t id = 0;
  for (auto& slot : ids) {
    if (chance(g, 4.0 / static_cast<double>(span))) ++id;
    slot = id;
  }
  return ids;
}

void append_positions(Generator& g, DenseAttention& a, int64_t span) {
  const auto documents = documents_by_position(g, span);
  const bool self = a.queries == a.keys && chance(g, 0.5);
  const auto queries = random_positions(g, a.queries, span);
  const auto keys = self ? queries : random_positions(g, a.keys, span);
  a.query_positions.insert(a.query_positions.end(), queries.begin(), queries.end());
  a.key_positions.insert(a.key_positions.end(), keys.begin(), keys.end());
  for (int32_t p : queries) a.query_documents.push_back(documents[static_cast<size_t>(p)]);
  for (int32_t p : keys) a.key_documents.push_back(documents[static_cast<size_t>(p)]);
}

void fill_values(AttentionCase& c, Generator& g) {
  DenseAttention& a = c.dense;
  a.q = normals(g, a.batch * a.queries * a.heads * a.width);
  a.k = normals(g, a.batch * a.keys * a.kv_heads * a.width);
  a.v = normals(g, a.batch * a.keys * a.kv_heads * a.value_width);
  a.y = normals(g, a.heads * a.width, 1.0 / std::sqrt(static_cast<double>(a.width)));
  a.dropout_keys.resize(static_cast<size_t>(a.batch));
  for (auto& key : a.dropout_keys) key = g();
  c.dout = normals(g, a.rows() * a.value_width);
  c.grad_lse = normals(g, a.rows(), 0.5);
  c.grad_entropy = normals(g, a.rows(), a.spec.entropy ? 0.5 : 0.0);
}

// Random pieces in random order, by slices, stripes or any rows.
std::vector<std::vector<int64_t>> random_blocks(Generator& g, int64_t keys) {
  const int64_t count = std::min<int64_t>(keys, pick(g, 1, 4));
  const int64_t kind = pick(g, 0, 2);
  std::vector<std::vector<int64_t>> blocks(static_cast<size_t>(count));
  for (int64_t j = 0; j < keys; ++j) {
    const int64_t part = kind == 0 ? j * count / keys : kind == 1 ? j % count : pick(g, 0, count - 1);
    blocks[static_cast<size_t>(part)].push_back(j);
  }
  std::shuffle(blocks.begin(), blocks.end(), g);
  return blocks;
}

// Rows of `columns` numbers with `padding` NaN behind each, in the type and on the device of this run.
Tensor row_tensor(const std::vector<double>& values, int64_t columns, int64_t padding, DType type) {
  const int64_t rows = columns == 0 ? 0 : static_cast<int64_t>(values.size()) / columns;
  const Tensor wide = Tensor::empty({rows, columns + padding}, DType::f32, MemoryTag::other, Device::cpu);
  for (int64_t r = 0; r < rows; ++r) {
    float* to = wide.data<float>() + r * (columns + padding);
    for (int64_t c = 0; c < columns; ++c) to[c] = static_cast<float>(values[static_cast<size_t>(r * columns + c)]);
    std::fill_n(to + columns, padding, std::numeric_limits<float>::quiet_NaN());
  }
  const Tensor there = Tensor::empty(wide.shape(), type);
  copy_rows(wide.to(current_device()), there);
  return there.narrow_last(0, columns);
}

Tensor statistic_tensor(const DenseAttention& a, const std::vector<double>& values) {
  return row_tensor(values, std::max<int64_t>(1, a.queries), 0, DType::f32).view({a.batch, a.heads, a.queries});
}

std::vector<float> numbers(const Tensor& tensor) {
  const Tensor compact = Tensor::empty(tensor.shape());
  copy_rows(tensor, compact);
  const Tensor host = compact.to(Device::cpu);
  return {host.data<float>(), host.data<float>() + host.numel()};
}

// The rows of one key block, gathered into tensors with their own strides.
struct GatheredKeys {
  GatheredKeys(const AttentionCase& c, const std::vector<int64_t>& rows, DType type) {
    const DenseAttention& a = c.dense;
    std::vector<double> k, v;
    std::vector<int32_t> positions, documents;
    for (int64_t b = 0; b < a.batch; ++b) {
      for (int64_t j : rows) {
        const auto at = static_cast<size_t>(b * a.keys + j);
        positions.push_back(a.key_positions[at]);
        documents.push_back(a.key_documents.empty() ? 0 : a.key_documents[at]);
        append(k, a.k, at, a.kv_heads * a.width);
        append(v, a.v, at, a.kv_heads * a.value_width);
      }
    }
    // Padding proves that strides are respected; every other block has rows that can be read 16 bytes at a time.
    const bool odd = rows.size() % 2 == 1;
    view = {row_tensor(k, a.kv_heads * a.width, odd ? 3 : 8, type),
            row_tensor(v, a.kv_heads * a.value_width, odd ? 1 : 8, type),
            static_cast<int64_t>(rows.size()),
            a.kv_heads,
            a.width,
            a.value_width,
            device_copy(positions),
            device_copy(documents)};
    const std::vector<double> no_k(k.size(), 0.0), no_v(v.size(), 0.0);
    dk = row_tensor(no_k, a.kv_heads * a.width, 3, DType::f32);
    dv = row_tensor(no_v, a.kv_heads * a.value_width, 1, DType::f32);
  }

  static void append(std::vector<double>& to, const std::vector<double>& from, size_t row, int64_t width) {
    const double* source = from.data() + row * static_cast<size_t>(width);
    to.insert(to.end(), source, source + width);
  }

  Tensor dk, dv;
  AttentionKeys view;
};

void scatter(const AttentionCase& c, const std::vector<int64_t>& rows, const Tensor& from, std::vector<float>& to) {
  const auto values = numbers(from);
  const int64_t width = from.cols();
  for (int64_t b = 0; b < c.dense.batch; ++b) {
    for (size_t n = 0; n < rows.size(); ++n) {
      const auto row = (static_cast<size_t>(b) * rows.size() + n) * static_cast<size_t>(width);
      std::copy_n(values.data() + row, width, to.data() + DenseAttention::at(b * c.dense.keys + rows[n], width));
    }
  }
}

double largest(const std::vector<double>& values) {
  double m = 0.0;
  for (double x : values) m = std::isfinite(x) ? std::max(m, std::abs(x)) : m;
  return m;
}

// Infinite or NaN unless both sides agree on what is infinite.
double relative_error(const std::vector<float>& got, const std::vector<double>& expected, double at_least) {
  if (got.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double error = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    const auto value = static_cast<double>(got[i]);
    if (value == expected[i]) continue;
    const double difference = std::abs(value - expected[i]);
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    error = std::max(error, difference);
  }
  return error / std::max(largest(expected), at_least);
}

}  // namespace

AttentionCase filled_case(DenseAttention dense, uint64_t seed) {
  Generator g(seed);
  AttentionCase c;
  c.dense = std::move(dense);
  fill_values(c, g);
  c.blocks.resize(1);
  for (int64_t j = 0; j < c.dense.keys; ++j) c.blocks[0].push_back(j);
  return c;
}

AttentionCase random_case(uint64_t seed, int64_t max_tokens, int64_t max_width) {
  Generator g(seed);
  AttentionCase c;
  DenseAttention& a = c.dense;
  a.batch = chance(g, 0.3) ? 2 : 1;
  a.kv_heads = pick(g, 1, 2);
  a.heads = a.kv_heads * pick(g, 1, 3);
  a.first_head = pick(g, 0, 5);
  a.width = std::min(random_width(g), max_width);
  a.value_width = chance(g, 0.6) ? a.width : std::min(random_width(g), max_width);
  a.queries = chance(g, 0.1) ? 1 : pick(g, 1, max_tokens);
  a.keys = chance(g, 0.1) ? 1 : chance(g, 0.4) ? a.queries : pick(g, 1, max_tokens);
  const int64_t span = std::max(a.queries, a.keys) + pick(g, 0, max_tokens);
  a.spec = random_spec(g, a.heads, a.width, span);
  for (int64_t b = 0; b < a.batch; ++b) append_positions(g, a, span);
  fill_values(c, g);
  c.blocks = random_blocks(g, a.keys);
  return c;
}

AttentionNumbers run_blocks(const AttentionCase& c, DType type) {
  const DenseAttention& a = c.dense;
  const bool entropy = a.spec.entropy;
  const int64_t width = a.heads * a.width, value_width = a.heads * a.value_width;
  AttentionQueries queries;
  queries.q = row_tensor(a.q, width, a.queries % 2 == 1 ? 5 : 0, type);
  queries.batch = a.batch;
  queries.tokens = a.queries;
  queries.heads = a.heads;
  queries.width = a.width;
  queries.positions = device_copy(a.query_positions);
  queries.documents = device_copy(a.query_documents);
  queries.dropout_keys = device_copy({reinterpret_cast<const int64_t*>(a.dropout_keys.data()), a.dropout_keys.size()});
  queries.score_vectors = row_tensor(a.y, a.width, 0, type);
  queries.first_head = a.first_head;
  const Shape statistics{a.batch, a.heads, a.queries};
  const Tensor out = Tensor::empty({a.batch * a.queries, value_width}, type), lse = Tensor::empty(statistics);
  const Tensor row_entropy = entropy ? Tensor::empty(statistics) : Tensor();
  if (c.blocks.size() == 1) {
    attention_forward(a.spec, queries, GatheredKeys(c, c.blocks[0], type).view, out, lse, row_entropy);
  } else {
    auto state = AttentionState::create(a.batch, a.queries, a.heads, a.value_width, entropy);
    state.reset();
    for (const auto& block : c.blocks) {
      attention_forward_block(a.spec, queries, GatheredKeys(c, block, type).view, state);
    }
    attention_finish(state, out, lse, row_entropy);
  }

  const Tensor dout = row_tensor(c.dout, value_width, 0, type), term = Tensor::empty(statistics);
  const Tensor gl = statistic_tensor(a, c.grad_lse), gh = entropy ? statistic_tensor(a, c.grad_entropy) : Tensor();
  attention_backward_rows(lse, out, dout, a.value_width, gh, row_entropy, gl, term);
  const Tensor dq = Tensor::zeros({a.batch * a.queries, width}), dy = Tensor::zeros({a.heads, a.width});
  AttentionNumbers n;
  n.dk.assign(a.k.size(), 0.0F);
  n.dv.assign(a.v.size(), 0.0F);
  for (const auto& block : c.blocks) {
    GatheredKeys keys(c, block, type);
    attention_backward_block(a.spec, queries, keys.view, {lse, term, gh, dout}, {dq, keys.dk, keys.dv, dy});
    scatter(c, block, keys.dk, n.dk);
    scatter(c, block, keys.dv, n.dv);
  }
  n.out = numbers(out);
  n.lse = numbers(lse);
  n.entropy = entropy ? numbers(row_entropy) : std::vector<float>(n.lse.size());
  n.dq = numbers(dq);
  n.dy = numbers(dy);
  return n;
}

void round_values(AttentionCase& c) {
  for (auto* values : {&c.dense.q, &c.dense.k, &c.dense.v, &c.dense.y, &c.dout}) {
    for (double& x : *values) x = static_cast<double>(bf16_to_float(float_to_bf16(static_cast<float>(x))));
  }
}

AttentionErrors compare_with_oracle(const AttentionCase& c, const AttentionNumbers& got) {
  const auto forward = dense_forward(c.dense);
  const auto g = dense_backward(c.dense, forward, c.dout, c.grad_lse, c.grad_entropy);
  AttentionErrors e;
  e.forward = std::max(relative_error(got.out, forward.out, 1e-3), relative_error(got.lse, forward.lse, 1.0));
  if (c.dense.spec.entropy) e.forward = std::max(e.forward, relative_error(got.entropy, forward.entropy, 1.0));
  // Where the terms of a gradient cancel (a row with a single key, say), only their rounding is left: then the error is
  // measured against a part of the terms.
  const auto floor = [](const std::vector<double>& terms) { return std::max(1e-3, 0.1 * largest(terms)); };
  e.backward = std::max({relative_error(got.dq, g.dq, floor(g.dq_terms)),
                         relative_error(got.dk, g.dk, floor(g.dk_terms)), relative_error(got.dv, g.dv, 0.1)});
  if (c.dense.spec.score == AttentionScore::additive) {
    e.backward = std::max(e.backward, relative_error(got.dy, g.dy, floor(g.dy_terms)));
  }
  return e;
}

std::string describe(const AttentionCase& c) {
  const DenseAttention& a = c.dense;
  return fmt::format(
      "B={} Tq={} Tk={} H={} Hkv={} D={} Dv={} score={} causal={} window=({}, {}) documents={} alibi={} dropout={} "
      "entropy={} blocks={}",
      a.batch, a.queries, a.keys, a.heads, a.kv_heads, a.width, a.value_width,
      a.spec.score == AttentionScore::additive ? "additive" : "scaled_dot", a.spec.causal, a.spec.window_left,
      a.spec.window_right, a.spec.documents, !a.spec.alibi_slopes.empty(), a.spec.dropout, a.spec.entropy,
      c.blocks.size());
}

}  // namespace farsight::testing
