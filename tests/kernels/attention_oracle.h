// SPDX-License-Identifier: Apache-2.0
// Dense fp64 attention, forward and analytic backward: the plain definition that every other implementation is compared
// with. Stores the T x T weights, evaluates one pair at a time, knows no tiles. Its gradients are checked by central
// differences in attention_oracle_test.cc.
//
//   DenseAttention problem = ...;                        // sizes, positions, values
//   const DenseForward forward = dense_forward(problem);
//   const DenseGradients g = dense_backward(problem, forward, dout, grad_lse, grad_entropy);
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/attention/spec.h"
#include "kernels/random.h"

namespace farsight::testing {

// Layouts are those of kernels/attention/block.h with contiguous rows.
struct DenseAttention {
  AttentionSpec spec;
  int64_t batch = 1, queries = 0, keys = 0, heads = 1, kv_heads = 1, width = 1, value_width = 1;
  std::vector<double> q, k, v, y;  // [B,Tq,H,D] [B,Tk,Hkv,D] [B,Tk,Hkv,Dv] [H,D]
  std::vector<int32_t> query_positions, key_positions, query_documents, key_documents;
  std::vector<uint64_t> dropout_keys;
  int64_t first_head = 0;

  const double* query(int64_t b, int64_t i, int64_t h) const { return &q[at((b * queries + i) * heads + h, width)]; }
  const double* key(int64_t b, int64_t j, int64_t h) const { return &k[at(key_row(b, j, h), width)]; }
  const double* value(int64_t b, int64_t j, int64_t h) const { return &v[at(key_row(b, j, h), value_width)]; }
  int64_t key_row(int64_t b, int64_t j, int64_t h) const { return (b * keys + j) * kv_heads + h * kv_heads / heads; }
  int64_t rows() const { return batch * heads * queries; }

  static size_t at(int64_t row, int64_t columns) { return static_cast<size_t>(row * columns); }
};

struct DenseForward {
  std::vector<double> out, lse, entropy;  // [B,Tq,H,Dv] [B,H,Tq] [B,H,Tq]
  std::vector<double> s, w;               // [B,H,Tq,Tk] scores (NaN where masked) and weight multipliers
};

struct DenseGradients {
  std::vector<double> dq, dk, dv, dy;
  // Sums of the magnitudes of everything that was added up for dq, dk, dy: what rounding errors are measured against
  // where the terms cancel.
  std::vector<double> dq_terms, dk_terms, dy_terms;
  std::vector<double> score_sum;  // [B,H,Tq] sum over the keys of the score gradients; the row identity says gL
};

inline bool dense_visible(const DenseAttention& a, int64_t b, int64_t i, int64_t j) {
  const auto qi = static_cast<size_t>(b * a.queries + i), kj = static_cast<size_t>(b * a.keys + j);
  const int64_t delta = int64_t{a.query_positions[qi]} - int64_t{a.key_positions[kj]};
  if (a.spec.causal && delta < 0) return false;
  if (delta > a.spec.window_left || -delta > a.spec.window_right) return false;
  return !a.spec.documents || a.query_documents[qi] == a.key_documents[kj];
}

inline double dense_scale(const DenseAttention& a) {
  return a.spec.scale != 0.0F ? static_cast<double>(a.spec.scale) : 1.0 / std::sqrt(static_cast<double>(a.width));
}

inline double dense_score(const DenseAttention& a, int64_t b, int64_t h, int64_t i, int64_t j) {
  const double *q = a.query(b, i, h), *k = a.key(b, j, h);
  double s = 0.0;
  for (int64_t c = 0; c < a.width; ++c) {
    if (a.spec.score == AttentionScore::additive) {
      s += a.y[static_cast<size_t>(h * a.width + c)] * std::tanh(q[c] + k[c]);
    } else {
      s += dense_scale(a) * q[c] * k[c];
    }
  }
  if (a.spec.alibi_slopes.empty()) return s;
  const int64_t delta = int64_t{a.query_positions[static_cast<size_t>(b * a.queries + i)]} -
                        int64_t{a.key_positions[static_cast<size_t>(b * a.keys + j)]};
  return s - static_cast<double>(a.spec.alibi_slopes[static_cast<size_t>(h)]) * static_cast<double>(std::abs(delta));
}

inline double dense_multiplier(const DenseAttention& a, int64_t b, int64_t h, int64_t i, int64_t j) {
  if (a.spec.dropout == 0.0) return 1.0;
  const auto pq = static_cast<uint32_t>(a.query_positions[static_cast<size_t>(b * a.queries + i)]);
  const auto pk = static_cast<uint32_t>(a.key_positions[static_cast<size_t>(b * a.keys + j)]);
  const auto head = static_cast<uint32_t>(a.first_head + h);
  const uint32_t word = philox(a.dropout_keys[static_cast<size_t>(b)], {pq, pk >> 2, head, 0})[pk & 3];
  return word >= dropout_threshold(a.spec.dropout) ? 1.0 / (1.0 - a.spec.dropout) : 0.0;
}

// One row: scores into s, statistics and output.
inline void dense_forward_row(const DenseAttention& a, int64_t b, int64_t h, int64_t i, DenseForward& f) {
  const int64_t row = (b * a.heads + h) * a.queries + i;
  double* s = &f.s[DenseAttention::at(row, a.keys)];
  double* w = &f.w[DenseAttention::at(row, a.keys)];
  double m = -std::numeric_limits<double>::infinity();
  for (int64_t j = 0; j < a.keys; ++j) {
    s[j] = dense_visible(a, b, i, j) ? dense_score(a, b, h, i, j) : std::numeric_limits<double>::quiet_NaN();
    w[j] = dense_multiplier(a, b, h, i, j);
    if (s[j] > m) m = s[j];
  }
  double l = 0.0;
  for (int64_t j = 0; j < a.keys; ++j) l += std::isnan(s[j]) ? 0.0 : std::exp(s[j] - m);
  const auto r = static_cast<size_t>(row);
  f.lse[r] = l > 0.0 ? m + std::log(l) : -std::numeric_limits<double>::infinity();
  double* out = &f.out[DenseAttention::at((b * a.queries + i) * a.heads + h, a.value_width)];
  for (int64_t j = 0; j < a.keys; ++j) {
    if (std::isnan(s[j])) continue;
    const double p = std::exp(s[j] - f.lse[r]);
    f.entropy[r] -= p * (s[j] - f.lse[r]);
    for (int64_t c = 0; c < a.value_width; ++c) out[c] += p * w[j] * a.value(b, j, h)[c];
  }
}

inline DenseForward dense_forward(const DenseAttention& a) {
  const auto rows = static_cast<size_t>(a.rows());
  DenseForward f;
  f.out.assign(rows * static_cast<size_t>(a.value_width), 0.0);
  f.lse.assign(rows, 0.0);
  f.entropy.assign(rows, 0.0);
  f.s.assign(rows * static_cast<size_t>(a.keys), 0.0);
  f.w.assign(rows * static_cast<size_t>(a.keys), 0.0);
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t h = 0; h < a.heads; ++h) {
      for (int64_t i = 0; i < a.queries; ++i) dense_forward_row(a, b, h, i, f);
    }
  }
  return f;
}

// Adds what the score gradient ds of one pair gives to q, k and y; `terms` is the sum of magnitudes that ds came from.
inline void dense_score_backward(const DenseAttention& a, int64_t b, int64_t h, int64_t i, int64_t j, double ds,
                                 double terms, DenseGradients& g) {
  const double *q = a.query(b, i, h), *k = a.key(b, j, h);
  const size_t q_row = DenseAttention::at((b * a.queries + i) * a.heads + h, a.width);
  const size_t k_row = DenseAttention::at(a.key_row(b, j, h), a.width);
  const auto add = [](std::vector<double>& to, std::vector<double>& magnitudes, size_t at, double x, double size) {
    to[at] += x;
    magnitudes[at] += std::abs(size);
  };
  for (int64_t channel = 0; channel < a.width; ++channel) {
    const auto c = static_cast<size_t>(channel);
    double dq = dense_scale(a) * k[c], dk = dense_scale(a) * q[c];
    if (a.spec.score == AttentionScore::additive) {
      const auto yc = static_cast<size_t>(h * a.width) + c;
      const double t = std::tanh(q[c] + k[c]);
      dq = dk = a.y[yc] * (1.0 - t * t);
      add(g.dy, g.dy_terms, yc, ds * t, terms * t);
    }
    add(g.dq, g.dq_terms, q_row + c, ds * dq, terms * dq);
    add(g.dk, g.dk_terms, k_row + c, ds * dk, terms * dk);
  }
}

inline void dense_backward_row(const DenseAttention& a, const DenseForward& f, int64_t b, int64_t h, int64_t i,
                               const std::vector<double>& dout, double gl, double gh, DenseGradients& g) {
  const int64_t row = (b * a.heads + h) * a.queries + i;
  const auto r = static_cast<size_t>(row);
  const double* s = &f.s[DenseAttention::at(row, a.keys)];
  const double* w = &f.w[DenseAttention::at(row, a.keys)];
  const double* d = &dout[DenseAttention::at((b * a.queries + i) * a.heads + h, a.value_width)];
  std::vector<double> p(static_cast<size_t>(a.keys), 0.0), dp = p, squares = p;
  double mean = 0.0;
  for (int64_t j = 0; j < a.keys; ++j) {
    if (std::isnan(s[j])) continue;
    const auto n = static_cast<size_t>(j);
    p[n] = std::exp(s[j] - f.lse[r]);
    for (int64_t c = 0; c < a.value_width; ++c) {
      const double product = w[j] * d[c] * a.value(b, j, h)[c];
      dp[n] += product;
      squares[n] += product * product;
      g.dv[DenseAttention::at(a.key_row(b, j, h), a.value_width) + static_cast<size_t>(c)] += p[n] * w[j] * d[c];
    }
    mean += p[n] * dp[n];
  }
  for (int64_t j = 0; j < a.keys; ++j) {
    if (std::isnan(s[j])) continue;
    const auto n = static_cast<size_t>(j);
    const double surplus = gh * (s[j] - f.lse[r] + f.entropy[r]);
    const double ds = p[n] * (dp[n] - mean + gl - surplus);
    const double terms = p[n] * (std::sqrt(squares[n]) + std::abs(mean) + std::abs(gl) + std::abs(surplus));
    g.score_sum[r] += ds;
    dense_score_backward(a, b, h, i, j, ds, terms, g);
  }
}

// dout [B,Tq,H,Dv]; grad_lse, grad_entropy [B,H,Tq].
inline DenseGradients dense_backward(const DenseAttention& a, const DenseForward& f, const std::vector<double>& dout,
                                     const std::vector<double>& grad_lse, const std::vector<double>& grad_entropy) {
  DenseGradients g;
  g.dq.assign(a.q.size(), 0.0);
  g.dk.assign(a.k.size(), 0.0);
  g.dv.assign(a.v.size(), 0.0);
  g.dy.assign(a.y.size(), 0.0);
  g.dq_terms = g.dq;
  g.dk_terms = g.dk;
  g.dy_terms = g.dy;
  g.score_sum.assign(static_cast<size_t>(a.rows()), 0.0);
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t h = 0; h < a.heads; ++h) {
      for (int64_t i = 0; i < a.queries; ++i) {
        const auto r = static_cast<size_t>((b * a.heads + h) * a.queries + i);
        dense_backward_row(a, f, b, h, i, dout, grad_lse[r], grad_entropy[r], g);
      }
    }
  }
  return g;
}

}  // namespace farsight::testing
