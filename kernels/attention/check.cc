// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/check.h"

#include <cmath>

#include "kernels/error.h"

namespace farsight {
namespace {

void expect(bool good, const char* what) {
  if (!good) fail(ErrorKind::internal, "attention: {}", what);
}

void expect_rows(const char* name, const Tensor& t, int64_t rows, int64_t columns) {
  if (t.defined() && t.rows() == rows && t.cols() == columns) return;
  if (t.defined() && rows == 0 && t.cols() == columns) return;
  fail(ErrorKind::internal, "attention: {} has shape {}, expected {} rows of {}", name,
       t.defined() ? to_string(t.shape()) : std::string("(none)"), rows, columns);
}

void expect_count(const char* name, const Tensor& t, DType dtype, int64_t count, const Tensor& beside) {
  if (t.defined() && t.numel() == count && t.dtype() == dtype && t.device() == beside.device()) return;
  fail(ErrorKind::internal, "attention: {} {} {}, expected {} {} on {}", name,
       t.defined() ? to_string(t.dtype()) : "(none)", t.defined() ? to_string(t.shape()) : std::string(), count,
       to_string(dtype), to_string(beside.device()));
}

void check_sizes(const AttentionQueries& q, const AttentionKeys& k) {
  expect(q.batch >= 0 && q.tokens >= 0 && k.tokens >= 0, "negative batch or token count");
  expect(q.heads > 0 && k.heads > 0 && q.width > 0 && k.value_width > 0, "heads and widths must be positive");
  if (q.heads % k.heads != 0) {
    fail(ErrorKind::internal, "attention: {} key heads do not divide {} query heads", k.heads, q.heads);
  }
  if (q.width != k.width) {
    fail(ErrorKind::internal, "attention: queries have width {}, keys {}; they must be equal", q.width, k.width);
  }
  expect_rows("q", q.q, q.batch * q.tokens, q.heads * q.width);
  expect_rows("k", k.k, q.batch * k.tokens, k.heads * k.width);
  expect_rows("v", k.v, q.batch * k.tokens, k.heads * k.value_width);
  expect_together("attention", {&q.q, &k.k, &k.v});
}

void check_arrays(const AttentionSpec& spec, const AttentionQueries& q, const AttentionKeys& k) {
  const int64_t queries = q.batch * q.tokens, keys = q.batch * k.tokens;
  expect_count("positions of queries", q.positions, DType::i32, queries, q.q);
  expect_count("positions of keys", k.positions, DType::i32, keys, q.q);
  if (spec.documents) {
    expect_count("documents of queries", q.documents, DType::i32, queries, q.q);
    expect_count("documents of keys", k.documents, DType::i32, keys, q.q);
  }
  if (spec.dropout > 0.0) expect_count("dropout keys", q.dropout_keys, DType::i64, q.batch, q.q);
  if (spec.score != AttentionScore::additive) return;
  expect_count("score vectors", q.score_vectors, q.q.dtype(), q.heads * q.width, q.q);
}

void check_policy(const AttentionSpec& spec, int64_t heads) {
  if (!(spec.dropout >= 0.0 && spec.dropout < 1.0)) {
    fail(ErrorKind::config, "attention: dropout is {}; it must be in [0, 1)", spec.dropout);
  }
  if (spec.window_left < 0 || spec.window_right < 0) {
    fail(ErrorKind::config, "attention: window ({}, {}) must not be negative", spec.window_left, spec.window_right);
  }
  if (!std::isfinite(spec.scale)) fail(ErrorKind::config, "attention: scale is not finite");
  if (!spec.alibi_slopes.empty() && static_cast<int64_t>(spec.alibi_slopes.size()) != heads) {
    fail(ErrorKind::internal, "attention: {} ALiBi slopes for {} query heads", spec.alibi_slopes.size(), heads);
  }
}

}  // namespace

void check_attention(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys) {
  check_sizes(queries, keys);
  check_policy(spec, queries.heads);
  check_arrays(spec, queries, keys);
}

void check_state(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                 const AttentionState& state) {
  const Shape rows{queries.batch, queries.heads, queries.tokens};
  expect_shape("attention", "m", state.m, rows);
  expect_shape("attention", "l", state.l, rows);
  if (spec.entropy) expect_shape("attention", "u", state.u, rows);
  expect_shape("attention", "o", state.o, {queries.batch, queries.tokens, queries.heads, keys.value_width});
}

void check_gradients(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                     const AttentionRowSaved& saved, const AttentionGradients& gradients) {
  const int64_t rows = queries.batch * queries.tokens, key_rows = queries.batch * keys.tokens;
  expect_count("lse", saved.lse, DType::f32, rows * queries.heads, queries.q);
  expect_count("row_term", saved.row_term, DType::f32, rows * queries.heads, queries.q);
  if (saved.grad_entropy.defined()) {
    expect_count("grad_entropy", saved.grad_entropy, DType::f32, rows * queries.heads, queries.q);
  }
  expect_rows("dout", saved.dout, rows, queries.heads * keys.value_width);
  expect_together("attention", {&saved.dout, &queries.q});
  expect_rows("dq", gradients.dq, rows, queries.heads * queries.width);
  expect_rows("dk", gradients.dk, key_rows, keys.heads * keys.width);
  expect_rows("dv", gradients.dv, key_rows, keys.heads * keys.value_width);
  expect_together("attention", {&gradients.dq, &gradients.dk, &gradients.dv});
  if (spec.score != AttentionScore::additive) return;
  expect_count("dscore_vectors", gradients.dscore_vectors, DType::f32, queries.heads * queries.width, queries.q);
}

float score_scale(const AttentionSpec& spec, int64_t width) {
  return spec.scale != 0.0F ? spec.scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
}

}  // namespace farsight
