// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm.h"

#include "kernels/error.h"
#include "kernels/random.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Norm : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Norm, ::testing::ValuesIn(targets()), target_name);

constexpr float kEps = 1e-5F;

// Every group of w.size() elements on its own; an empty b is rms.
Vec oracle(const Vec& x, const Vec& w, const Vec& b, bool centred) {
  Vec y(x.size());
  const size_t n = w.size();
  for (size_t g = 0; g < x.size(); g += n) {
    double mean = 0.0, square = 0.0;
    for (size_t i = 0; i < n; ++i) mean += centred ? x[g + i] / static_cast<double>(n) : 0.0;
    for (size_t i = 0; i < n; ++i) square += (x[g + i] - mean) * (x[g + i] - mean) / static_cast<double>(n);
    const double rstd = 1.0 / std::sqrt(square + static_cast<double>(kEps));
    for (size_t i = 0; i < n; ++i) y[g + i] = (x[g + i] - mean) * rstd * w[i] + (b.empty() ? 0.0 : b[i]);
  }
  return y;
}

Vec sum(const Vec& a, const Vec& b) {
  Vec s(a);
  for (size_t i = 0; i < s.size(); ++i) s[i] += b[i];
  return s;
}

struct Case {
  int64_t rows, width, margin;
  NormKind kind;
  double dropout;
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

TEST_P(Norm, ResidualFormEqualsFp64OracleInValuesAndGradients) {
  for (const Case& c :
       {Case{2, 1, 0, NormKind::layer, 0.0}, Case{4, 17, 0, NormKind::rms, 0.0}, Case{70, 6, 0, NormKind::layer, 0.0},
        Case{4, 33, 2, NormKind::rms, 0.25}, Case{6, 20, 1, NormKind::layer, 0.5}}) {
    const bool layer = c.kind == NormKind::layer;
    const int64_t n = c.rows * c.width;
    ParameterStore store;
    Parameter& w = add_parameter(store, "w", {c.width});
    Parameter* b = layer ? &add_parameter(store, "b", {c.width}) : nullptr;
    allocate(store);
    const Vec xv = random_vec(1, n), rv = random_vec(2, n), wv = random_vec(3, c.width);
    const Vec bv = layer ? random_vec(4, c.width) : Vec{}, dy = random_vec(5, n), ds = random_vec(6, n);
    assign(w.value, wv);
    if (b != nullptr) assign(b->value, bv);
    const Site site(c.dropout, c.rows);
    const Vec factors = site.factors(c.rows, c.width);
    Tape tape;
    const Var x = tape.input(to_tensor(xv, {c.rows, c.width}, c.margin), true);
    const Var r = tape.input(to_tensor(rv, {c.rows, c.width}, c.margin), true);
    const NormResidual out = norm_residual(tape, x, r, w, b, c.kind, kEps, &site.site);
    const auto new_residual = [&](const Vec& xs, const Vec& rs) {
      Vec s(rs);
      for (size_t i = 0; i < s.size(); ++i) s[i] += xs[i] * factors[i];
      return s;
    };
    const auto loss = [&](const Vec& xs, const Vec& rs, const Vec& ws, const Vec& bs) {
      const Vec s = new_residual(xs, rs);
      return dot(oracle(s, ws, bs, layer), dy) + dot(s, ds);
    };
    expect_close(to_vec(out.residual.value()), new_residual(xv, rv), 1e-6, "residual");
    expect_close(to_vec(out.normed.value()), oracle(new_residual(xv, rv), wv, bv, layer), 2e-6, "normed");
    tape.backward(weighted_sum(tape, {out.normed, out.residual}, {dy, ds}));
    const auto fd = [](const auto& f, const Vec& at) { return numeric_gradient(f, at, 1e-6); };
    expect_close(to_vec(x.grad()), fd([&](const Vec& v) { return loss(v, rv, wv, bv); }, xv), 1e-5, "dx");
    expect_close(to_vec(r.grad()), fd([&](const Vec& v) { return loss(xv, v, wv, bv); }, rv), 1e-5, "dresidual");
    expect_close(to_vec(w.grad), fd([&](const Vec& v) { return loss(xv, rv, v, bv); }, wv), 1e-5, "dw");
    if (layer) expect_close(to_vec(b->grad), fd([&](const Vec& v) { return loss(xv, rv, wv, v); }, bv), 1e-5, "db");
  }
}

TEST_P(Norm, GroupsAreNormalisedOneByOneAndInputsUsedTwiceAddUp) {
  ParameterStore store;
  Parameter& w = add_parameter(store, "w", {6});
  allocate(store);
  const Vec xv = random_vec(1, 5 * 18), wv = random_vec(2, 6), d1 = random_vec(3, 5 * 18), d2 = random_vec(4, 5 * 18);
  assign(w.value, wv);
  Tape tape;
  const Var x = tape.input(to_tensor(xv, {5, 18}, 3), true);
  const Var y1 = norm(tape, x, w, nullptr, NormKind::rms, kEps);
  const Var y2 = norm(tape, x, w, nullptr, NormKind::layer, kEps);
  expect_close(to_vec(y1.value()), oracle(xv, wv, {}, false), 2e-6, "rms");
  expect_close(to_vec(y2.value()), oracle(xv, wv, {}, true), 2e-6, "layer");
  tape.backward(weighted_sum(tape, {y1, y2}, {d1, d2}));
  const auto loss = [&](const Vec& xs, const Vec& ws) {
    return dot(oracle(xs, ws, {}, false), d1) + dot(oracle(xs, ws, {}, true), d2);
  };
  expect_close(to_vec(x.grad()), numeric_gradient([&](const Vec& v) { return loss(v, wv); }, xv, 1e-6), 1e-5, "dx");
  expect_close(to_vec(w.grad), numeric_gradient([&](const Vec& v) { return loss(xv, v); }, wv, 1e-6), 1e-5, "dw");
}

// Two blocks in a row with no branch before the first: the shape of a whole model.
TEST_P(Norm, ResidualStreamThroughTwoNormsEqualsOracle) {
  ParameterStore store;
  Parameter& w = add_parameter(store, "w", {7});
  allocate(store);
  const Vec rv = random_vec(1, 21), wv = random_vec(2, 7), dy = random_vec(3, 21);
  assign(w.value, wv);
  Tape tape;
  const Var r = tape.input(to_tensor(rv, {3, 7}), true);
  const NormResidual first = norm_residual(tape, Var(), r, w, nullptr, NormKind::rms, kEps);
  const NormResidual second = norm_residual(tape, first.normed, first.residual, w, nullptr, NormKind::rms, kEps);
  const NormResidual third = norm_residual(tape, second.normed, second.residual, w, nullptr, NormKind::rms, kEps);
  tape.backward(weighted_sum(tape, {third.normed}, {dy}));
  const auto loss = [&](const Vec& rs, const Vec& ws) {
    const Vec s2 = sum(rs, oracle(rs, ws, {}, false));
    const Vec s3 = sum(s2, oracle(s2, ws, {}, false));
    return dot(oracle(s3, ws, {}, false), dy);
  };
  expect_close(to_vec(r.grad()), numeric_gradient([&](const Vec& v) { return loss(v, wv); }, rv, 1e-6), 1e-5, "dr");
  expect_close(to_vec(w.grad), numeric_gradient([&](const Vec& v) { return loss(rv, v); }, wv, 1e-6), 1e-5, "dw");
}

TEST_P(Norm, BitsDoNotDependOnTheThreadCount) {
  const int64_t rows = 131, width = 300;
  const Vec xv = random_vec(1, rows * width), rv = random_vec(2, rows * width), dy = random_vec(3, rows * width);
  const auto run = [&] {
    ParameterStore store;
    Parameter& w = add_parameter(store, "w", {width});
    Parameter& b = add_parameter(store, "b", {width});
    allocate(store);
    assign(w.value, random_vec(4, width));
    Tape tape;
    const Var x = tape.input(to_tensor(xv, {rows, width}), true), r = tape.input(to_tensor(rv, {rows, width}), true);
    const NormResidual out = norm_residual(tape, x, r, w, &b, NormKind::layer, kEps);
    const Vec y = to_vec(out.normed.value());
    tape.backward(weighted_sum(tape, {out.normed}, {dy}));
    return std::vector<Vec>{y, to_vec(x.grad()), to_vec(r.grad()), to_vec(w.grad), to_vec(b.grad)};
  };
  EXPECT_EQ(with_threads(1, run), with_threads(3, run));
}

TEST(NormShape, SizesThatDoNotFitAreRefused) {
  ParameterStore store;
  Parameter& w = add_parameter(store, "w", {4});
  Parameter& b = add_parameter(store, "b", {4});
  allocate(store);
  Tape tape;
  EXPECT_THROW(norm(tape, tape.input(Tensor::zeros({2, 6})), w, nullptr, NormKind::rms, kEps), Error);
  EXPECT_THROW(norm(tape, tape.input(Tensor::zeros({2, 4})), w, &b, NormKind::rms, kEps), Error);
  const Var r = tape.input(Tensor::zeros({2, 4}));
  EXPECT_THROW(norm_residual(tape, tape.input(Tensor::zeros({3, 4})), r, w, &b, NormKind::layer, kEps), Error);
}

}  // namespace
}  // namespace farsight
