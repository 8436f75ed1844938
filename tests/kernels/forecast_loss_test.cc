// SPDX-License-Identifier: Apache-2.0
#include "kernels/forecast_loss.h"

#include <numbers>

#include "kernels/error.h"
#include "kernels/forecast_terms-inl.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class ForecastLoss : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, ForecastLoss, ::testing::ValuesIn(targets()), target_name);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Case {
  ForecastLossOptions options;
  int64_t rows, horizon, channels, margin;
  bool missing, affine;
};

struct Problem {
  Vec head, targets, mean, std, gamma, beta;
  std::vector<uint8_t> observed;
};

double softplus(double x) { return std::log1p(std::exp(x)); }

double normal(double u, double s) {
  return -0.5 * std::log(2.0 * std::numbers::pi) - std::log(s) - 0.5 * u * u / (s * s);
}

double student(double u, double s, double nu) {
  const double z = u / s;
  return std::lgamma((nu + 1.0) / 2.0) - std::lgamma(nu / 2.0) - 0.5 * std::log(nu * std::numbers::pi) - std::log(s) -
         (nu + 1.0) / 2.0 * std::log(1.0 + z * z / nu);
}

// Loss and point forecast of one target by the formulas of the specification, with every output de-normalised first.
struct Outcome {
  double loss, point;
};

Outcome mixture(const std::vector<MixtureComponent>& components, const double* raw, double y,
                const std::function<double(double)>& place, double width) {
  double weights = 0.0, density = 0.0, point = 0.0;
  const double* at = raw;
  for (const auto& c : components) {
    const double w = std::exp(at[0]), location = place(at[1]);
    weights += w;
    point += w * location;
    if (c.kind == MixtureKind::fixed) density += w * std::exp(normal(y - location, c.scale * width));
    if (c.kind == MixtureKind::gaussian) {
      density += w * std::exp(normal(y - location, (softplus(at[2]) + 1e-6) * width));
    }
    if (c.kind == MixtureKind::student_t) {
      density += w * std::exp(student(y - location, (softplus(at[2]) + 1e-6) * width, 2.0 + softplus(at[3])));
    }
    at += c.kind == MixtureKind::fixed ? 2 : (c.kind == MixtureKind::gaussian ? 3 : 4);
  }
  return {-std::log(density / weights), point / weights};
}

Outcome outcome(const ForecastLossOptions& o, const double* raw, double y, double mean, double std, double gamma,
                double beta) {
  const auto place = [&](double location) { return (location - beta) / gamma * std + mean; };
  const double width = std / std::abs(gamma), u = y - place(raw[0]);
  switch (o.kind) {
    case ForecastLossKind::mse:
      return {u * u, place(raw[0])};
    case ForecastLossKind::mae:
      return {std::abs(u), place(raw[0])};
    case ForecastLossKind::huber:
      return {std::abs(u) <= o.delta ? 0.5 * u * u : o.delta * (std::abs(u) - 0.5 * o.delta), place(raw[0])};
    case ForecastLossKind::gaussian:
      return {-normal(u, (softplus(raw[1]) + 1e-6) * width), place(raw[0])};
    case ForecastLossKind::student_t:
      return {-student(u, (softplus(raw[1]) + 1e-6) * width, 2.0 + softplus(raw[2])), place(raw[0])};
    case ForecastLossKind::mixture:
      return mixture(o.components, raw, y, place, width);
    case ForecastLossKind::quantile:
      break;
  }
  double loss = 0.0;
  size_t middle = 0;
  for (size_t k = 0; k < o.levels.size(); ++k) {
    const double v = y - place(raw[k]), tau = o.levels[k];
    loss += std::max(tau * v, (tau - 1.0) * v) / static_cast<double>(o.levels.size());
    if (std::abs(tau - 0.5) < std::abs(o.levels[middle] - 0.5)) middle = k;
  }
  return {loss, place(raw[middle])};
}

struct Totals {
  double loss = 0.0, square = 0.0, absolute = 0.0;
};

Totals oracle(const Case& c, const Problem& p) {
  Totals t;
  const int64_t outputs = forecast_outputs(c.options);
  for (int64_t i = 0; i < c.rows * c.horizon; ++i) {
    const auto n = static_cast<size_t>(i), r = static_cast<size_t>(i / c.horizon);
    if (p.observed[n] == 0) continue;
    const size_t channel = r % static_cast<size_t>(c.channels);
    const Outcome o = outcome(c.options, p.head.data() + i * outputs, p.targets[n], p.mean[r], p.std[r],
                              p.gamma[channel], p.beta[channel]);
    t.loss += o.loss;
    t.square += (p.targets[n] - o.point) * (p.targets[n] - o.point);
    t.absolute += std::abs(p.targets[n] - o.point);
  }
  return t;
}

Vec in_fp32(Vec v) {
  for (auto& x : v) x = static_cast<double>(static_cast<float>(x));
  return v;
}

Problem make_problem(const Case& c) {
  const int64_t outputs = forecast_outputs(c.options), n = c.rows * c.horizon;
  Problem p{random_vec(1, n * outputs),
            random_vec(2, n, 3.0),
            random_vec(3, c.rows),
            random_vec(4, c.rows),
            random_vec(5, c.channels),
            random_vec(6, c.channels, 0.3),
            std::vector<uint8_t>(static_cast<size_t>(n), 1)};
  for (auto& s : p.std) s = rounded(0.5 + std::abs(s));
  // Both signs: a negative gamma turns the axis round.
  for (auto& g : p.gamma) g = c.affine ? rounded(g < 0.0 ? g - 0.5 : g + 0.5) : 1.0;
  if (!c.affine) p.beta.assign(p.beta.size(), 0.0);
  for (size_t i = 0; c.missing && i < p.observed.size(); i += 3) p.observed[i] = 0;
  return p;
}

std::vector<Case> cases() {
  using Kind = ForecastLossKind;
  const std::vector<MixtureComponent> three = {
      {MixtureKind::gaussian, 1.0}, {MixtureKind::student_t, 1.0}, {MixtureKind::fixed, 0.7}};
  std::vector<Case> list;
  for (const Kind kind :
       {Kind::mse, Kind::mae, Kind::huber, Kind::quantile, Kind::gaussian, Kind::student_t, Kind::mixture}) {
    ForecastLossOptions o;
    o.kind = kind;
    o.scale = 0.125;
    o.delta = 1.5;
    if (kind == Kind::quantile) o.levels = {0.1, 0.4, 0.55, 0.9};
    if (kind == Kind::mixture) o.components = three;
    list.push_back({o, 3, 5, 1, 0, false, false});
    list.push_back({o, 6, 3, 3, 2, true, true});
  }
  ForecastLossOptions one;
  one.kind = Kind::mixture;
  one.components = {{MixtureKind::fixed, 1.0}};
  list.push_back({one, 2, 4, 1, 0, true, false});
  return list;
}

TEST_P(ForecastLoss, SumsAndGradientsEqualTheOracle) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(static_cast<int>(c.options.kind));
    const Problem p = make_problem(c);
    const int64_t outputs = forecast_outputs(c.options);
    ParameterStore store;
    Parameter &gamma = add_parameter(store, "gamma", {c.channels}), &beta = add_parameter(store, "beta", {c.channels});
    allocate(store);
    assign(gamma.value, p.gamma);
    assign(beta.value, p.beta);
    Vec values = p.targets;
    for (size_t i = 0; i < values.size(); ++i) values[i] = p.observed[i] != 0 ? values[i] : kNaN;
    ForecastTargets t;
    t.values = to_data(values, {c.rows, c.horizon});
    if (c.missing) t.observed = to_flags(p.observed, {c.rows, c.horizon});
    t.mean = to_data(p.mean, {c.rows});
    t.std = to_data(p.std, {c.rows});
    if (c.affine) t.gamma = &gamma;
    if (c.affine) t.beta = &beta;
    Tape tape;
    const Vec d0 = random_vec(9, c.rows * c.horizon * outputs, 0.1);
    const Var head = tape.input(to_tensor(p.head, {c.rows, c.horizon * outputs}, c.margin), true);
    const ForecastLossResult result = forecast_loss(tape, head, t, c.options);
    const Totals expected = oracle(c, p);
    const Tensor sums = result.sums.to(Device::cpu);
    EXPECT_NEAR(sums.data<double>()[0], expected.loss, 1e-10 * (1.0 + std::abs(expected.loss)));
    EXPECT_NEAR(sums.data<double>()[1], expected.square, 1e-10 * expected.square);
    EXPECT_NEAR(sums.data<double>()[2], expected.absolute, 1e-10 * expected.absolute);
    const double loss = expected.loss * c.options.scale;
    EXPECT_NEAR(to_vec(result.loss.value())[0], loss, 1e-6 * (1.0 + std::abs(loss)));
    tape.backward(weighted_sum(tape, {head, result.loss}, {d0, {1.0}}));
    const auto scaled = [&](const Problem& q) { return c.options.scale * oracle(c, q).loss; };
    const auto gradient = [&](Vec Problem::*part) {
      return numeric_gradient(
          [&](const Vec& v) {
            Problem q = p;
            q.*part = v;
            return scaled(q);
          },
          p.*part, 1e-6);
    };
    Vec dhead = gradient(&Problem::head);
    for (size_t i = 0; i < dhead.size(); ++i) dhead[i] += d0[i];
    expect_close(to_vec(head.grad()), dhead, 1e-6, "dhead");
    if (!c.affine) continue;
    // Sums of the rows in fp32, from fp64 shares.
    const double tolerance = 1e-5;
    const Vec dgamma = to_vec(gamma.grad), dbeta = to_vec(beta.grad);
    const Vec egamma = gradient(&Problem::gamma), ebeta = gradient(&Problem::beta);
    for (size_t i = 0; i < dgamma.size(); ++i) {
      EXPECT_NEAR(dgamma[i], egamma[i], tolerance * (1.0 + std::abs(egamma[i])));
      EXPECT_NEAR(dbeta[i], ebeta[i], tolerance * (1.0 + std::abs(ebeta[i])));
    }
  }
}

// The specification's heads without a window: mean 0 and std 1, and a level of 600 that fp32 would blur.
TEST_P(ForecastLoss, TargetsFarFromZeroKeepTheirDigits) {
  ForecastLossOptions o;
  const Vec y = in_fp32({1e6 + 0.25, 1e6 - 0.5});
  ForecastTargets t;
  t.values = to_data(y, {2, 1});
  t.mean = to_data({1e6, 1e6}, {2});
  t.std = to_data({2.0, 2.0}, {2});
  Tape tape;
  const ForecastLossResult result = forecast_loss(tape, tape.input(to_tensor({0.125, 0.25}, {2, 1})), t, o);
  EXPECT_FALSE(result.loss.requires_grad());
  EXPECT_EQ(result.sums.to(Device::cpu).data<double>()[0], 1.0);
  EXPECT_EQ(result.sums.to(Device::cpu).data<double>()[2], 1.0);
  t.mean = t.std = Tensor();
  t.values = to_data({3.0, -1.0}, {2, 1});
  const ForecastLossResult plain = forecast_loss(tape, tape.input(to_tensor({1.0, 1.0}, {2, 1})), t, o);
  EXPECT_EQ(plain.sums.to(Device::cpu).data<double>()[0], 8.0);
}

// The limits of the raw outputs: nothing overflows, and distributions keep their floors.
TEST_P(ForecastLoss, ExtremeOutputsGiveFiniteLossesAndGradients) {
  ForecastLossOptions o;
  o.kind = ForecastLossKind::mixture;
  o.components = {{MixtureKind::student_t, 1.0}, {MixtureKind::gaussian, 1.0}};
  const Vec head = {200.0, 1e4, -300.0, 500.0, -200.0, -1e4, 300.0, 0.0, 3.0, -90.0, -500.0, 0.0, 0.0, -700.0};
  ForecastTargets t;
  t.values = to_data({1e4, -2e4}, {1, 2});
  Tape tape;
  const Var x = tape.input(to_tensor(head, {1, 14}), true);
  const ForecastLossResult result = forecast_loss(tape, x, t, o);
  EXPECT_TRUE(std::isfinite(result.sums.to(Device::cpu).data<double>()[0]));
  tape.backward(result.loss);
  for (const double d : to_vec(x.grad())) EXPECT_TRUE(std::isfinite(d));
}

TEST_P(ForecastLoss, BitsDoNotDependOnTheThreadCount) {
  const Case c{{ForecastLossKind::student_t, 0.01, 1.0, {}, {}}, 90, 24, 9, 0, true, true};
  const Problem p = make_problem(c);
  const auto run = [&] {
    ParameterStore store;
    Parameter &gamma = add_parameter(store, "gamma", {9}), &beta = add_parameter(store, "beta", {9});
    allocate(store);
    assign(gamma.value, p.gamma);
    ForecastTargets t{to_data(p.targets, {90, 24}),
                      to_flags(p.observed, {90, 24}),
                      to_data(p.mean, {90}),
                      to_data(p.std, {90}),
                      &gamma,
                      &beta};
    Tape tape;
    const Var head = tape.input(to_tensor(p.head, {90, 72}), true);
    const ForecastLossResult result = forecast_loss(tape, head, t, c.options);
    tape.backward(result.loss);
    const Tensor sums = result.sums.to(Device::cpu);
    return std::vector<Vec>{{sums.data<double>(), sums.data<double>() + 3}, to_vec(head.grad()), to_vec(gamma.grad)};
  };
  EXPECT_EQ(with_threads(1, run), with_threads(2, run));
}

// log gamma(a) - log gamma(a + 1/2) against the C library, and its slope against differences of it.
TEST(ForecastTerms, GammaRatioIsAccurate) {
  const auto value = [](double a) {
    const forecast::GammaRatio ratio = forecast::log_gamma_ratio(a);
    return 0.5 * std::log(ratio.square) - ratio.series;
  };
  for (double a = 1.0; a < 1e6; a *= 1.07) {
    const double error = 4e-16 * std::abs(std::lgamma(a)) + 2e-13;  // the library's own rounding
    EXPECT_NEAR(value(a), std::lgamma(a) - std::lgamma(a + 0.5), error) << a;
    const double h = 1e-4 * a;
    const double slope = (value(a + h) - value(a - h)) / (2.0 * h);
    EXPECT_NEAR(forecast::log_gamma_ratio(a).slope * a, slope * a, 1e-7) << a;
  }
  // digamma(1) - digamma(3/2) = 2 log 2 - 2
  EXPECT_NEAR(forecast::log_gamma_ratio(1.0).slope, 2.0 * std::numbers::ln2 - 2.0, 1e-13);
}

TEST(ForecastLossShape, WhatDoesNotFitIsRefused) {
  Tape tape;
  const Var head = tape.input(Tensor::zeros({2, 6}));
  ForecastTargets t;
  ForecastLossOptions o;
  EXPECT_THROW(forecast_loss(tape, head, t, o), Error);
  t.values = Tensor::zeros({2, 6});
  EXPECT_NO_THROW(forecast_loss(tape, head, t, o));
  o.kind = ForecastLossKind::gaussian;
  EXPECT_THROW(forecast_loss(tape, head, t, o), Error);
  o.kind = ForecastLossKind::quantile;
  EXPECT_THROW(forecast_loss(tape, head, t, o), Error);
  o.levels = {0.5, 1.0};
  EXPECT_THROW(forecast_loss(tape, head, t, o), Error);
  o.kind = ForecastLossKind::mse;
  t.mean = Tensor::zeros({2});
  EXPECT_THROW(forecast_loss(tape, head, t, o), Error);
  t.mean = Tensor();
  const Var trained = tape.input(Tensor::zeros({2, 6}), true);
  const Var loss = forecast_loss(tape, trained, t, o).loss;
  EXPECT_THROW(tape.backward(loss, 2.0F), Error);
}

}  // namespace
}  // namespace farsight
