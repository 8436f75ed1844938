// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.h"

#include "kernels/column_sums.h"
#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

Vec oracle(const Vec& x, const Vec& w, const Vec& b, int64_t rows, int64_t in, int64_t out) {
  Vec y;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      double s = b.empty() ? 0.0 : b[static_cast<size_t>(o)];
      for (int64_t i = 0; i < in; ++i) s += x[static_cast<size_t>(r * in + i)] * w[static_cast<size_t>(o * in + i)];
      y.push_back(s);
    }
  }
  return y;
}

struct Case {
  int64_t rows, in, out, margin;
  bool bias;
};

class Linear : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Linear, ::testing::ValuesIn(targets()), target_name);

TEST_P(Linear, ValuesAndGradientsEqualFp64Oracle) {
  for (const Case& c :
       {Case{1, 1, 1, 0, true}, Case{7, 5, 19, 0, true}, Case{3, 33, 2, 3, false}, Case{17, 8, 48, 1, true}}) {
    ParameterStore store;
    Parameter& w = add_parameter(store, "w", {c.out, c.in});
    Parameter* b = c.bias ? &add_parameter(store, "b", {c.out}) : nullptr;
    allocate(store);
    const Vec xv = random_vec(1, c.rows * c.in), wv = random_vec(2, c.out * c.in);
    const Vec bv = c.bias ? random_vec(3, c.out) : Vec{}, dy = random_vec(4, c.rows * c.out);
    assign(w.value, wv);
    if (b != nullptr) assign(b->value, bv);
    Tape tape;
    const Var x = tape.input(to_tensor(xv, {c.rows, c.in}, c.margin), /*requires_grad=*/true);
    const Var y = linear(tape, x, w, b);
    expect_close(to_vec(y.value()), oracle(xv, wv, bv, c.rows, c.in, c.out), 2e-6, "y");
    tape.backward(weighted_sum(tape, {y}, {dy}));
    const auto loss = [&](const Vec& xs, const Vec& ws, const Vec& bs) {
      return dot(oracle(xs, ws, bs, c.rows, c.in, c.out), dy);
    };
    expect_close(to_vec(x.grad()), numeric_gradient([&](const Vec& v) { return loss(v, wv, bv); }, xv), 1e-5, "dx");
    expect_close(to_vec(w.grad), numeric_gradient([&](const Vec& v) { return loss(xv, v, bv); }, wv), 1e-5, "dw");
    if (b != nullptr) {
      expect_close(to_vec(b->grad), numeric_gradient([&](const Vec& v) { return loss(xv, wv, v); }, bv), 1e-5, "db");
    }
  }
}

TEST_P(Linear, AddsUpWhenInputAndWeightAreUsedTwice) {
  ParameterStore store;
  Parameter& w = add_parameter(store, "w", {6, 6});
  Parameter& b = add_parameter(store, "b", {6});
  allocate(store);
  const Vec xv = random_vec(1, 30), wv = random_vec(2, 36, 0.5), bv = random_vec(3, 6), dy = random_vec(4, 30);
  assign(w.value, wv);
  assign(b.value, bv);
  Tape tape;
  const Var x = tape.input(to_tensor(xv, {5, 6}), true);
  const Var first = linear(tape, x, w, &b);
  const Var second = linear(tape, x, w, &b);
  const Var third = linear(tape, first, w, nullptr);
  tape.backward(weighted_sum(tape, {first, second, third}, {dy, dy, dy}));
  const auto loss = [&](const Vec& xs, const Vec& ws, const Vec& bs) {
    const Vec y = oracle(xs, ws, bs, 5, 6, 6);
    return 2.0 * dot(y, dy) + dot(oracle(y, ws, {}, 5, 6, 6), dy);
  };
  expect_close(to_vec(x.grad()), numeric_gradient([&](const Vec& v) { return loss(v, wv, bv); }, xv), 1e-5, "dx");
  expect_close(to_vec(w.grad), numeric_gradient([&](const Vec& v) { return loss(xv, v, bv); }, wv), 1e-5, "dw");
  expect_close(to_vec(b.grad), numeric_gradient([&](const Vec& v) { return loss(xv, wv, v); }, bv), 1e-5, "db");
}

TEST(LinearGroup, EqualsSeparateProductsSideBySide) {
  const Vec xv = random_vec(1, 4 * 5), dy = random_vec(2, 4 * 10);
  const std::vector<int64_t> sizes = {4, 3, 3};
  const auto build = [&](ParameterStore& store) {
    std::vector<Parameter*> all;
    for (const char* kind : {"w", "b"}) {
      for (size_t i = 0; i < sizes.size(); ++i) {
        const Shape shape = kind[0] == 'w' ? Shape{sizes[i], 5} : Shape{sizes[i]};
        all.push_back(&store.add(kind + std::to_string(i), shape, {Init::Kind::normal, 1.0}, /*adjoin=*/i > 0));
      }
    }
    allocate(store);
    store.initialize(7);
    return all;
  };
  ParameterStore a, b;
  const auto pa = build(a), pb = build(b);
  Tape tape;
  const Var xa = tape.input(to_tensor(xv, {4, 5}), true), xb = tape.input(to_tensor(xv, {4, 5}), true);
  const Var y = linear_group(tape, xa, std::span(pa).first(3), std::span(pa).last(3));
  std::vector<Var> apart;
  std::vector<Vec> weights;
  const auto parts = tape.split_last(y, sizes);
  for (size_t i = 0, column = 0; i < 3; column += static_cast<size_t>(sizes[i]), ++i) {
    apart.push_back(linear(tape, xb, *pb[i], pb[i + 3]));
    expect_close(to_vec(parts[i].value()), to_vec(apart[i].value()), 1e-6, "y");
    Vec part;
    for (size_t r = 0; r < 4; ++r) {
      for (size_t c = 0; c < static_cast<size_t>(sizes[i]); ++c) part.push_back(dy[r * 10 + column + c]);
    }
    weights.push_back(part);
  }
  std::vector<Var> outs = parts;
  outs.insert(outs.end(), apart.begin(), apart.end());
  std::vector<Vec> ws = weights;
  ws.insert(ws.end(), weights.begin(), weights.end());
  tape.backward(weighted_sum(tape, outs, ws));
  expect_close(to_vec(xa.grad()), to_vec(xb.grad()), 1e-6, "dx");
  for (size_t i = 0; i < pa.size(); ++i) expect_close(to_vec(pa[i]->grad), to_vec(pb[i]->grad), 1e-6, "dw, db");
}

TEST(LinearGroup, RefusesParametersThatDoNotAdjoin) {
  ParameterStore store;
  Parameter& a = add_parameter(store, "a", {3, 5});
  Parameter& b = add_parameter(store, "b", {3, 5});
  allocate(store);
  Tape tape;
  const Var x = tape.input(Tensor::zeros({2, 5}));
  Parameter* const both[] = {&a, &b};
  EXPECT_THROW(linear_group(tape, x, both, {}), Error);
  EXPECT_THROW(linear(tape, tape.input(Tensor::zeros({2, 4})), a), Error);
}

TEST(LinearGroup, ZeroesPartsThatNothingHasWritten) {
  ParameterStore store;
  Parameter& a = add_parameter(store, "a", {1, 1});
  Parameter& b = add_parameter(store, "b", {1, 1}, /*adjoin=*/true);
  allocate(store);
  Tape tape;
  const Var x = tape.input(to_tensor({3.0}, {1, 1}));
  assign(b.grad, {99.0});  // stale
  Parameter* const both[] = {&a, &b};
  const Var y = linear_group(tape, x, both, {});
  const Var z = linear(tape, x, a);
  tape.backward(weighted_sum(tape, {y, z}, {{1.0, 10.0}, {100.0}}));
  EXPECT_EQ(to_vec(a.grad).front(), 303.0);
  EXPECT_EQ(to_vec(b.grad).front(), 30.0);
}

TEST_P(Linear, ColumnSumsAreExactForIntegersAndEqualForAnyThreadCount) {
  for (const int64_t cols : {1, 3, 64, 65, 200}) {
    for (const int64_t rows : {0, 1, 63, 64, 130, 1100}) {
      Vec v(static_cast<size_t>(rows * cols));
      for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>(i % 13) - 5.0;
      const Tensor in = to_tensor(v, {rows, cols}, 2);
      Vec expected(static_cast<size_t>(cols), 2.5);
      for (size_t i = 0; i < v.size(); ++i) expected[i % static_cast<size_t>(cols)] += v[i];
      for (const int threads : {1, 3}) {
        const Tensor out = Tensor::empty({cols});
        fill(out, 2.5F);
        with_threads(threads, [&] {
          column_sums(in, /*add=*/true, out);
          return 0;
        });
        EXPECT_EQ(to_vec(out), expected);
      }
    }
  }
}

}  // namespace
}  // namespace farsight
