// SPDX-License-Identifier: Apache-2.0
#include "kernels/batch_norm.h"

#include <barrier>
#include <thread>

#include "kernels/error.h"
#include "kernels/random.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class BatchNorm : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, BatchNorm, ::testing::ValuesIn(targets()), target_name);

constexpr double kEps = 1e-5;

struct Moments {
  Vec mean, var;  // var without Bessel's correction
};

Moments moments(const Vec& x, size_t cols) {
  const size_t rows = x.size() / cols;
  Moments m{Vec(cols, 0.0), Vec(cols, 0.0)};
  for (size_t i = 0; i < x.size(); ++i) m.mean[i % cols] += x[i] / static_cast<double>(rows);
  for (size_t i = 0; i < x.size(); ++i) {
    m.var[i % cols] += (x[i] - m.mean[i % cols]) * (x[i] - m.mean[i % cols]) / static_cast<double>(rows);
  }
  return m;
}

Vec normed(const Vec& x, const Moments& m, const Vec& w, const Vec& b) {
  Vec y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % w.size();
    y[i] = (x[i] - m.mean[c]) / std::sqrt(m.var[c] + kEps) * w[c] + b[c];
  }
  return y;
}

Vec oracle(const Vec& x, const Vec& w, const Vec& b) { return normed(x, moments(x, w.size()), w, b); }

struct Model {
  ParameterStore store;
  Parameter &weight, &bias, &mean, &var;
  Vec w, b;
  explicit Model(int64_t cols)
      : weight(add_parameter(store, "weight", {cols})),
        bias(add_parameter(store, "bias", {cols})),
        mean(add_parameter(store, "running_mean", {cols})),
        var(add_parameter(store, "running_var", {cols})),
        w(random_vec(31, cols)),
        b(random_vec(32, cols)) {
    allocate(store);
    assign(weight.value, w);
    assign(bias.value, b);
  }
  BatchNormParameters parameters() { return {weight, bias, mean, var}; }
};

struct Site {
  std::vector<uint64_t> keys = {11, 0xfedcba9876543210U};
  std::vector<int32_t> positions;
  DropoutSite site;
  Site(double p, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i) positions.push_back(static_cast<int32_t>(3 * i + 1));
    site = {p, keys, ids(positions), rows / 2, 0};
  }
  Vec factors(int64_t rows, int64_t cols) const {
    Vec f;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        const auto n = static_cast<size_t>(r);
        const auto words = philox(keys[n / static_cast<size_t>(rows / 2)],
                                  {static_cast<uint32_t>(positions[n]), static_cast<uint32_t>(c >> 2), 0, 0});
        const bool keep = words[static_cast<size_t>(c & 3)] >= dropout_threshold(site.p);
        f.push_back(keep ? 1.0 / (1.0 - site.p) : 0.0);
      }
    }
    return f;
  }
};

struct Case {
  int64_t rows, cols, margin;
  double dropout;
};

TEST_P(BatchNorm, ValuesGradientsAndAveragesEqualFp64Oracle) {
  for (const Case& c : {Case{4, 1, 0, 0.0}, Case{6, 17, 0, 0.0}, Case{70, 5, 2, 0.0}, Case{4, 33, 1, 0.25},
                        Case{50, 4, 0, 0.5}, Case{40, 16, 0, 0.3}}) {
    SCOPED_TRACE(c.rows);
    Model m(c.cols);
    const int64_t n = c.rows * c.cols;
    const Vec xv = random_vec(1, n), rv = random_vec(2, n), dy = random_vec(3, n), dr = random_vec(4, n);
    const Site site(c.dropout, c.rows);
    const Vec factors = site.factors(c.rows, c.cols);
    const auto sum = [&](const Vec& xs, const Vec& rs) {
      Vec s(rs);
      for (size_t i = 0; i < s.size(); ++i) s[i] += xs[i] * factors[i];
      return s;
    };
    const auto loss = [&](const Vec& xs, const Vec& rs, const Vec& ws, const Vec& bs) {
      return dot(oracle(sum(xs, rs), ws, bs), dy) + dot(rs, dr);
    };
    Vec dw, db;
    for (int round = 1; round <= 2; ++round) {  // the second time gradients are added
      Tape tape;
      std::vector<std::string> ready;
      tape.on_gradient_ready([&](Parameter& p) { ready.push_back(p.name); });
      const Var x = tape.input(to_tensor(xv, {c.rows, c.cols}, c.margin), true);
      const Var r = tape.input(to_tensor(rv, {c.rows, c.cols}, c.margin), true);
      const Var y = batch_norm(tape, x, r, m.parameters(), {}, &site.site);
      expect_close(to_vec(y.value()), oracle(sum(xv, rv), m.w, m.b), 3e-6, "y");
      // The residual has another consumer in the second round only: its gradient then is not that of y in place.
      tape.backward(round == 1 ? weighted_sum(tape, {y}, {dy}) : weighted_sum(tape, {r, y}, {dr, dy}));
      EXPECT_EQ(ready.size(), 4U);
      const auto fd = [](const auto& f, const Vec& at) { return numeric_gradient(f, at, 1e-6); };
      expect_close(to_vec(x.grad()), fd([&](const Vec& v) { return loss(v, rv, m.w, m.b); }, xv), 2e-5, "dx");
      Vec residual = fd([&](const Vec& v) { return loss(xv, v, m.w, m.b); }, rv);
      for (size_t i = 0; round == 1 && i < residual.size(); ++i) residual[i] -= dr[i];
      expect_close(to_vec(r.grad()), residual, 2e-5, "dresidual");
      dw = fd([&](const Vec& v) { return loss(xv, rv, v, m.b); }, m.w);
      db = fd([&](const Vec& v) { return loss(xv, rv, m.w, v); }, m.b);
      Moments batch = moments(sum(xv, rv), static_cast<size_t>(c.cols));
      const auto times = static_cast<double>(round), rows = static_cast<double>(c.rows);
      for (auto* v : {&dw, &db, &batch.mean}) {
        for (auto& e : *v) e *= times;
      }
      for (auto& e : batch.var) e *= times * rows / (rows - 1.0);
      expect_close(to_vec(m.weight.grad), dw, 2e-5, "dw");
      expect_close(to_vec(m.bias.grad), db, 2e-5, "db");
      expect_close(to_vec(m.mean.grad), batch.mean, 1e-5, "mean");
      expect_close(to_vec(m.var.grad), batch.var, 1e-5, "var");
    }
  }
}

TEST_P(BatchNorm, EvaluationUsesTheRunningAveragesAsConstants) {
  Model m(6);
  const Vec rv = random_vec(1, 9 * 6), dy = random_vec(2, 9 * 6), mean = random_vec(3, 6);
  Vec var = random_vec(4, 6);
  for (auto& v : var) v = rounded(0.5 + v * v);
  assign(m.mean.value, mean);
  assign(m.var.value, var);
  const auto y_of = [&](const Vec& v) { return normed(v, {mean, var}, m.w, m.b); };
  BatchNormOptions options;
  options.training = false;
  options.all_reduce_sum = [](const Tensor&) { FAIL() << "evaluation asked the other ranks"; };
  Tape tape;
  const Var r = tape.input(to_tensor(rv, {9, 6}, 1), true);
  const Var y = batch_norm(tape, Var(), r, m.parameters(), options);
  expect_close(to_vec(y.value()), y_of(rv), 2e-6, "y");
  tape.backward(weighted_sum(tape, {y}, {dy}));
  const auto gradient = numeric_gradient([&](const Vec& v) { return dot(y_of(v), dy); }, rv);
  expect_close(to_vec(r.grad()), gradient, 1e-5, "dr");
  EXPECT_FALSE(m.mean.grad_written);
}

// The other rank has the same rows: sums are twice those of this one.
TEST_P(BatchNorm, SharesOfRanksAddUpToTheBatch) {
  Model m(5);
  const Vec rv = random_vec(1, 12 * 5), dy = random_vec(2, 12 * 5);
  Vec both = rv, dboth = dy;
  both.insert(both.end(), rv.begin(), rv.end());
  dboth.insert(dboth.end(), dy.begin(), dy.end());
  int calls = 0;
  BatchNormOptions options;
  options.rows = 24;
  options.all_reduce_sum = [&](const Tensor& sums) {
    ++calls;
    EXPECT_EQ(sums.dtype(), DType::f64);
    const Tensor host = sums.to(Device::cpu).clone();
    for (double& s : host.span<double>()) s *= 2.0;
    copy_rows(host.to(sums.device()), sums);
  };
  Tape tape;
  const Var r = tape.input(to_tensor(rv, {12, 5}), true);
  const Var y = batch_norm(tape, Var(), r, m.parameters(), options);
  EXPECT_EQ(calls, 2);
  Vec expected = oracle(both, m.w, m.b);
  expected.resize(rv.size());
  expect_close(to_vec(y.value()), expected, 2e-6, "y");
  tape.backward(weighted_sum(tape, {y}, {dy}));
  EXPECT_EQ(calls, 3);
  Vec gradient = numeric_gradient([&](const Vec& v) { return dot(oracle(v, m.w, m.b), dboth); }, both);
  gradient.resize(rv.size());
  expect_close(to_vec(r.grad()), gradient, 1e-5, "dr");
  Moments batch = moments(both, 5);
  for (auto& v : batch.mean) v *= 0.5;
  for (auto& v : batch.var) v *= 0.5 * 24.0 / 23.0;
  expect_close(to_vec(m.mean.grad), batch.mean, 1e-5, "mean");
  expect_close(to_vec(m.var.grad), batch.var, 1e-5, "var");
}

TEST_P(BatchNorm, ARankWithoutRowsTakesPart) {
  Model m(3);
  int calls = 0;
  BatchNormOptions options;
  options.rows = 8;
  options.all_reduce_sum = [&](const Tensor& sums) {
    ++calls;
    for (const double s : sums.to(Device::cpu).clone().span<double>()) EXPECT_EQ(s, 0.0);
  };
  Tape tape;
  const Var r = tape.input(Tensor::empty({0, 3}, element()), true);
  const Var y = batch_norm(tape, Var(), r, m.parameters(), options);
  tape.backward(weighted_sum(tape, {y}, {Vec{}}));
  EXPECT_EQ(calls, 3);
  for (const Parameter* p : {&m.weight, &m.bias, &m.mean, &m.var}) EXPECT_EQ(to_vec(p->grad), Vec(3, 0.0)) << p->name;
}

TEST_P(BatchNorm, ALargeOffsetCostsNoDigits) {
  Model m(3);
  Vec rv = random_vec(1, 700 * 3);
  const double offset = element() == DType::bf16 ? 4.0 : 1e5;
  for (auto& v : rv) v = rounded(v + offset);
  Tape tape(/*recording=*/false);
  const Var y = batch_norm(tape, Var(), tape.input(to_tensor(rv, {700, 3})), m.parameters());
  expect_close(to_vec(y.value()), oracle(rv, m.w, m.b), 2e-6, "y");
}

TEST_P(BatchNorm, BitsDoNotDependOnTheThreadCount) {
  const Vec xv = random_vec(1, 3000 * 20), rv = random_vec(2, 3000 * 20), dy = random_vec(3, 3000 * 20);
  const auto run = [&] {
    Model m(20);
    Tape tape;
    const Site site(0.1, 3000);
    const Var x = tape.input(to_tensor(xv, {3000, 20}), true), r = tape.input(to_tensor(rv, {3000, 20}), true);
    const Var y = batch_norm(tape, x, r, m.parameters(), {}, &site.site);
    const Vec values = to_vec(y.value());
    tape.backward(weighted_sum(tape, {y}, {dy}));
    return std::vector<Vec>{
        values, to_vec(x.grad()), to_vec(r.grad()), to_vec(m.weight.grad), to_vec(m.mean.grad), to_vec(m.var.grad)};
  };
  EXPECT_EQ(with_threads(1, run), with_threads(2, run));
}

// Three ranks with unequal shares, one of them empty, against one rank with all rows.
TEST(BatchNormRanks, AnyDivisionOfTheRowsGivesTheSame) {
  const int64_t cols = 7;
  const std::vector<int64_t> shares = {20, 0, 13};
  const Vec rv = random_vec(1, 33 * cols), dy = random_vec(2, 33 * cols);
  const Vec expected_y = oracle(rv, random_vec(31, cols), random_vec(32, cols));
  const Vec expected_d = numeric_gradient(
      [&](const Vec& v) { return dot(oracle(v, random_vec(31, cols), random_vec(32, cols)), dy); }, rv);
  std::barrier meeting(3);
  std::vector<double> total;
  std::vector<Vec> y(3), d(3), mean(3), var(3);
  const auto rank = [&](size_t me, int64_t first) {
    Model m(cols);
    const auto part = [&](const Vec& v) {
      return Vec(v.begin() + first * cols, v.begin() + (first + shares[me]) * cols);
    };
    BatchNormOptions options;
    options.rows = 33;
    options.all_reduce_sum = [&](const Tensor& sums) {
      for (size_t turn = 0; turn < 3; ++turn) {
        if (turn == me && turn == 0) total.assign(static_cast<size_t>(sums.numel()), 0.0);
        for (size_t i = 0; turn == me && i < total.size(); ++i) total[i] += sums.span<double>()[i];
        meeting.arrive_and_wait();
      }
      std::copy(total.begin(), total.end(), sums.data<double>());
      meeting.arrive_and_wait();
    };
    Tape tape;
    const Var r = tape.input(to_tensor(part(rv), {shares[me], cols}), true);
    const Var out = batch_norm(tape, Var(), r, m.parameters(), options);
    y[me] = to_vec(out.value());
    tape.backward(weighted_sum(tape, {out}, {part(dy)}));
    d[me] = to_vec(r.grad());
    mean[me] = to_vec(m.mean.grad);
    var[me] = to_vec(m.var.grad);
  };
  std::thread one([&] { rank(0, 0); }), two([&] { rank(1, 20); }), three([&] { rank(2, 20); });
  one.join();
  two.join();
  three.join();
  const auto joined = [](const std::vector<Vec>& parts) {
    Vec all;
    for (const Vec& p : parts) all.insert(all.end(), p.begin(), p.end());
    return all;
  };
  expect_close(joined(y), expected_y, 2e-6, "y");
  expect_close(joined(d), expected_d, 1e-5, "d");
  const Moments batch = moments(rv, static_cast<size_t>(cols));
  for (size_t c = 0; c < batch.mean.size(); ++c) {
    EXPECT_NEAR(mean[0][c] + mean[1][c] + mean[2][c], batch.mean[c], 1e-6);
    EXPECT_NEAR(var[0][c] + var[1][c] + var[2][c], batch.var[c] * 33.0 / 32.0, 1e-6);
  }
}

TEST(BatchNormShape, WhatDoesNotFitIsRefused) {
  Model m(4);
  Tape tape;
  const Var r = tape.input(Tensor::zeros({3, 4}));
  EXPECT_THROW(batch_norm(tape, Var(), tape.input(Tensor::zeros({3, 5})), m.parameters()), Error);
  EXPECT_THROW(batch_norm(tape, tape.input(Tensor::zeros({2, 4})), r, m.parameters()), Error);
  BatchNormOptions options;
  options.rows = 2;
  EXPECT_THROW(batch_norm(tape, Var(), r, m.parameters(), options), Error);
}

}  // namespace
}  // namespace farsight
