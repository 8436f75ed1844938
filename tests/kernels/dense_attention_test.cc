// SPDX-License-Identifier: Apache-2.0
#include "kernels/dense_attention.h"

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class DenseAttention : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, DenseAttention, ::testing::ValuesIn(targets()), target_name);

struct Size {
  int64_t batch, heads, queries, keys, width;
  int64_t pairs() const { return batch * heads * queries * keys; }
  int64_t q_numel() const { return batch * queries * heads * width; }
  int64_t k_numel() const { return batch * keys * heads * width; }
};

struct Expected {
  Vec out, scores;
};

// An empty `previous` is zero.
Expected oracle(const Size& n, double scale, const Vec& q, const Vec& k, const Vec& v, const Vec& previous) {
  Expected e{Vec(q.size(), 0.0), Vec(static_cast<size_t>(n.pairs()))};
  const auto at = [&](int64_t b, int64_t t, int64_t tokens, int64_t h, int64_t d) {
    return static_cast<size_t>(((b * tokens + t) * n.heads + h) * n.width + d);
  };
  for (int64_t row = 0; row < n.batch * n.heads * n.queries; ++row) {
    const int64_t i = row % n.queries, h = row / n.queries % n.heads, b = row / n.queries / n.heads;
    double sum = 0.0, largest = -1e300;
    double* s = e.scores.data() + row * n.keys;
    for (int64_t j = 0; j < n.keys; ++j) {
      s[j] = previous.empty() ? 0.0 : previous[static_cast<size_t>(row * n.keys + j)];
      for (int64_t d = 0; d < n.width; ++d) s[j] += scale * q[at(b, i, n.queries, h, d)] * k[at(b, j, n.keys, h, d)];
      largest = std::max(largest, s[j]);
    }
    for (int64_t j = 0; j < n.keys; ++j) sum += std::exp(s[j] - largest);
    for (int64_t j = 0; j < n.keys; ++j) {
      for (int64_t d = 0; d < n.width; ++d) {
        e.out[at(b, i, n.queries, h, d)] += std::exp(s[j] - largest) / sum * v[at(b, j, n.keys, h, d)];
      }
    }
  }
  return e;
}

struct Operands {
  Vec q, k, v, previous;
  explicit Operands(const Size& n)
      : q(random_vec(1, n.q_numel())),
        k(random_vec(2, n.k_numel())),
        v(random_vec(3, n.k_numel())),
        previous(static_cast<size_t>(n.pairs())) {
    const Vec random = random_vec(4, n.pairs());
    for (size_t i = 0; i < random.size(); ++i) previous[i] = random[i];
  }
};

// Gradients of dot(out, dout) + dot(scores, dscores).
Vec gradient(const Size& n, double scale, const Operands& at, Vec Operands::*part, const Vec& dout,
             const Vec& dscores) {
  return numeric_gradient(
      [&](const Vec& x) {
        Operands o = at;
        o.*part = x;
        const Expected e = oracle(n, scale, o.q, o.k, o.v, o.previous);
        return dot(e.out, dout) + (dscores.empty() ? 0.0 : dot(e.scores, dscores));
      },
      at.*part, 1e-5);
}

Var rows_input(Tape& tape, const Vec& v, int64_t rows, int64_t margin = 0) {
  return tape.input(to_tensor(v, {rows, static_cast<int64_t>(v.size()) / rows}, margin), true);
}

TEST_P(DenseAttention, ValuesAndGradientsEqualFp64Oracle) {
  int64_t margin = 0;
  for (const Size& n :
       {Size{2, 2, 5, 5, 4}, Size{1, 2, 5, 19, 5}, Size{2, 1, 1, 3, 1}, Size{1, 1, 66, 5, 2}, Size{1, 1, 3, 33, 8}}) {
    SCOPED_TRACE(n.keys);
    const Operands o(n);
    const double scale = 1.0 / std::sqrt(static_cast<double>(n.width));
    const Vec dout = random_vec(5, n.q_numel()), dscores = random_vec(6, n.pairs(), 0.2);
    const Shape pairs = {n.batch, n.heads, n.queries, n.keys};
    for (const bool wanted : {true, false}) {
      Tape tape;
      const Var q = rows_input(tape, o.q, n.batch * n.queries, margin);
      const Var k = rows_input(tape, o.k, n.batch * n.keys, margin), v = rows_input(tape, o.v, n.batch * n.keys);
      const Var previous = tape.input(to_data(o.previous, pairs), true);
      const DenseAttentionResult a =
          dense_attention(tape, q, k, v, previous, {n.batch, n.heads, std::nullopt, /*scores=*/wanted});
      const Expected e = oracle(n, scale, o.q, o.k, o.v, o.previous);
      expect_close(to_vec(a.out.value()), e.out, 2e-6, "out");
      EXPECT_EQ(a.scores.defined(), wanted);
      if (wanted) expect_close(to_vec(a.scores.value()), e.scores, 2e-6, "scores");
      const Vec ds = wanted ? dscores : Vec{};
      tape.backward(wanted ? weighted_sum(tape, {a.out, a.scores}, {dout, dscores})
                           : weighted_sum(tape, {a.out}, {dout}));
      expect_close(to_vec(q.grad()), gradient(n, scale, o, &Operands::q, dout, ds), 1e-5, "dq");
      expect_close(to_vec(k.grad()), gradient(n, scale, o, &Operands::k, dout, ds), 1e-5, "dk");
      expect_close(to_vec(v.grad()), gradient(n, scale, o, &Operands::v, dout, ds), 1e-5, "dv");
      expect_close(to_vec(previous.grad()), gradient(n, scale, o, &Operands::previous, dout, ds), 1e-5, "dprevious");
    }
    margin = 3;
  }
}

// Two layers as a model has them: parts of one projection, the first without scores before it, the second the last to
// use them.
TEST_P(DenseAttention, ResidualScoresOfTwoLayersCarryGradients) {
  const Size n{2, 2, 6, 6, 3};
  const int64_t rows = 12, columns = 6;
  const Vec first = random_vec(1, rows * 3 * columns), second = random_vec(2, rows * 3 * columns);
  const Vec d1 = random_vec(3, rows * columns), d2 = random_vec(4, rows * columns);
  const auto part = [&](const Vec& all, int64_t which) {
    Vec v;
    for (int64_t r = 0; r < rows; ++r) {
      const auto begin = all.begin() + (r * 3 + which) * columns;
      v.insert(v.end(), begin, begin + columns);
    }
    return v;
  };
  const auto loss = [&](const Vec& a, const Vec& b) {
    const Expected one = oracle(n, 0.5, part(a, 0), part(a, 1), part(a, 2), {});
    const Expected two = oracle(n, 0.25, part(b, 0), part(b, 1), part(b, 2), one.scores);
    return dot(one.out, d1) + dot(two.out, d2);
  };
  Tape tape;
  const Var a = rows_input(tape, first, rows), b = rows_input(tape, second, rows);
  const std::vector<Var> p1 = tape.split_last(a, {columns, columns, columns});
  const std::vector<Var> p2 = tape.split_last(b, {columns, columns, columns});
  const DenseAttentionResult one = dense_attention(tape, p1[0], p1[1], p1[2], Var(), {2, 2, 0.5F});
  const DenseAttentionResult two =
      dense_attention(tape, p2[0], p2[1], p2[2], one.scores, {2, 2, 0.25F, /*scores=*/false});
  tape.backward(weighted_sum(tape, {one.out, two.out}, {d1, d2}));
  expect_close(to_vec(a.grad()), numeric_gradient([&](const Vec& v) { return loss(v, second); }, first), 1e-5, "first");
  expect_close(to_vec(b.grad()), numeric_gradient([&](const Vec& v) { return loss(first, v); }, second), 1e-5,
               "second");
}

// Consumers of the same scores add up, and operands that are not trained have no gradient.
TEST_P(DenseAttention, GradientsAreAddedToWhatIsThere) {
  const Size n{1, 2, 4, 9, 4};
  const Operands o(n);
  const Vec dout = random_vec(5, n.q_numel()), dp = random_vec(6, n.pairs());
  Tape tape;
  const Var q = rows_input(tape, o.q, n.queries), k = rows_input(tape, o.k, n.keys);
  const Var v = tape.input(to_tensor(o.v, {n.keys, n.heads * n.width}));
  const Var previous = tape.input(to_data(o.previous, {1, 2, 4, 9}), true);
  const DenseAttentionResult a = dense_attention(tape, q, k, v, previous, {1, 2, 1.0F, /*scores=*/true});
  const DenseAttentionResult b = dense_attention(tape, q, k, v, previous, {1, 2, 1.0F, /*scores=*/false});
  tape.backward(weighted_sum(tape, {a.out, b.out, previous}, {dout, dout, dp}));
  const auto twice = [](Vec x) {
    for (auto& e : x) e *= 2.0;
    return x;
  };
  expect_close(to_vec(q.grad()), twice(gradient(n, 1.0, o, &Operands::q, dout, {})), 1e-5, "dq");
  expect_close(to_vec(k.grad()), twice(gradient(n, 1.0, o, &Operands::k, dout, {})), 1e-5, "dk");
  Vec expected = twice(gradient(n, 1.0, o, &Operands::previous, dout, {}));
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += dp[i];
  expect_close(to_vec(previous.grad()), expected, 1e-5, "dprevious");
  EXPECT_FALSE(v.has_grad());
}

TEST_P(DenseAttention, LargeScoresDoNotOverflow) {
  const Vec q = {40.0, -40.0}, k = {30.0, 1.0, -30.0}, v = {1.0, 2.0, 4.0};
  Tape tape(/*recording=*/false);
  const Var out = dense_attention(tape, tape.input(to_tensor(q, {2, 1})), tape.input(to_tensor(k, {3, 1})),
                                  tape.input(to_tensor(v, {3, 1})), Var(), {1, 1})
                      .out;
  expect_close(to_vec(out.value()), {1.0, 4.0}, 1e-6, "out");
}

TEST_P(DenseAttention, NoSamplesGiveNothing) {
  Tape tape;
  const auto none = [&] { return tape.input(Tensor::empty({0, 6}, element()), true); };
  const Var q = none(), k = none(), v = none();
  const DenseAttentionResult one = dense_attention(tape, q, k, v, Var(), {0, 2});
  const DenseAttentionResult two = dense_attention(tape, none(), none(), none(), one.scores, {0, 2});
  EXPECT_EQ(two.out.shape(), (Shape{0, 6}));
  tape.backward(weighted_sum(tape, {two.out}, {Vec{}}));
  EXPECT_EQ(q.grad().numel() + k.grad().numel() + v.grad().numel(), 0);
}

TEST_P(DenseAttention, BitsDoNotDependOnTheThreadCount) {
  const Size n{3, 3, 42, 42, 4};
  const Operands o(n);
  const Vec dout = random_vec(5, n.q_numel());
  const auto run = [&] {
    Tape tape;
    const Var q = rows_input(tape, o.q, 3 * 42), k = rows_input(tape, o.k, 3 * 42), v = rows_input(tape, o.v, 3 * 42);
    const Var previous = tape.input(to_data(o.previous, {3, 3, 42, 42}), true);
    const DenseAttentionResult a = dense_attention(tape, q, k, v, previous, {3, 3});
    const Vec out = to_vec(a.out.value()), scores = to_vec(a.scores.value());
    tape.backward(weighted_sum(tape, {a.out}, {dout}));
    return std::vector<Vec>{out, scores, to_vec(q.grad()), to_vec(k.grad()), to_vec(v.grad()), to_vec(previous.grad())};
  };
  EXPECT_EQ(with_threads(1, run), with_threads(2, run));
}

TEST(DenseAttentionShape, WhatDoesNotFitIsRefused) {
  Tape tape;
  const auto zeros = [&](int64_t rows, int64_t columns) { return tape.input(Tensor::zeros({rows, columns})); };
  EXPECT_THROW(dense_attention(tape, zeros(4, 6), zeros(4, 6), zeros(4, 6), Var(), {3, 2}), Error);
  EXPECT_THROW(dense_attention(tape, zeros(4, 6), zeros(4, 6), zeros(4, 6), Var(), {2, 4}), Error);
  EXPECT_THROW(dense_attention(tape, zeros(4, 6), zeros(4, 4), zeros(4, 4), Var(), {2, 2}), Error);
  const Var previous = tape.input(Tensor::zeros({2, 2, 2, 3}));
  EXPECT_THROW(dense_attention(tape, zeros(4, 6), zeros(4, 6), zeros(4, 6), previous, {2, 2}), Error);
  try {
    dense_attention(tape, zeros(4, 2), zeros(1025, 2), zeros(1025, 2), Var(), {1, 1});
    ADD_FAILURE() << "1025 keys were taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::config);
  }
}

}  // namespace
}  // namespace farsight
