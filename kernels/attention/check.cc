// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/check.h"

#include <cmath>

#include "kernels/error.h"

namespace farsight {
namespace {

void expect(bool good, const char* what) {
  if (!good) fail(ErrorKind::internal, "attention: {}", what);
}

void expect_stride(const char* name, int64_t stride, int64_t heads, int64_t width) {
  if (stride < heads * width) {
    fail(ErrorKind::internal, "attention: {} has row stride {}, needs at least heads {} x width {}", name, stride,
         heads, width);
  }
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
  expect_stride("q", q.row_stride, q.heads, q.width);
  expect_stride("k", k.k_stride, k.heads, k.width);
  expect_stride("v", k.v_stride, k.heads, k.value_width);
}

void check_pointers(const AttentionSpec& spec, const AttentionQueries& q, const AttentionKeys& k) {
  const bool queries = q.batch * q.tokens > 0;
  const bool keys = q.batch * k.tokens > 0;
  expect(!queries || (q.q != nullptr && q.positions != nullptr), "q or its positions are missing");
  expect(!keys || (k.k != nullptr && k.v != nullptr && k.positions != nullptr), "k, v or their positions are missing");
  expect(!spec.documents || ((!queries || q.documents != nullptr) && (!keys || k.documents != nullptr)),
         "the document mask needs document ids of queries and keys");
  expect(spec.dropout == 0.0 || !queries || q.dropout_keys != nullptr, "dropout needs one key per sample");
  expect(spec.score != AttentionScore::additive || q.score_vectors != nullptr,
         "the additive score needs its score vectors [H, D]");
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
  check_pointers(spec, queries, keys);
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
  if (queries.batch * queries.tokens > 0) {
    expect(saved.lse != nullptr && saved.row_term != nullptr && saved.dout != nullptr,
           "backward needs lse, row_term and dout");
    expect(gradients.dq != nullptr, "dq is missing");
  }
  expect(queries.batch * keys.tokens == 0 || (gradients.dk != nullptr && gradients.dv != nullptr),
         "dk or dv is missing");
  expect(spec.score != AttentionScore::additive || gradients.dscore_vectors != nullptr, "dscore_vectors is missing");
  expect_stride("dout", saved.dout_stride, queries.heads, keys.value_width);
  expect_stride("dq", gradients.dq_stride, queries.heads, queries.width);
  expect_stride("dk", gradients.dk_stride, keys.heads, keys.width);
  expect_stride("dv", gradients.dv_stride, keys.heads, keys.value_width);
}

float score_scale(const AttentionSpec& spec, int64_t width) {
  return spec.scale != 0.0F ? spec.scale : static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
}

}  // namespace farsight
