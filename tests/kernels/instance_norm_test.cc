// SPDX-License-Identifier: Apache-2.0
#include "kernels/instance_norm.h"

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class InstanceNorm : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, InstanceNorm, ::testing::ValuesIn(targets()), target_name);

constexpr double kEps = 1e-5;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Numbers that fp32 holds, whatever the type of the elements.
Vec data_vec(uint64_t seed, int64_t n, double offset = 0.0) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  Vec v(static_cast<size_t>(n));
  for (auto& x : v) x = static_cast<double>(static_cast<float>(offset + normal(engine)));
  return v;
}

struct Expected {
  Vec y, mean, std;
};

Expected oracle(const Vec& x, const std::vector<uint8_t>& observed, int64_t length, const Vec& gamma, const Vec& beta) {
  Expected e;
  const auto n = static_cast<size_t>(length);
  for (size_t r = 0; r < x.size() / n; ++r) {
    double sum = 0.0, square = 0.0, count = 0.0;
    const auto counts = [&](size_t i) { return observed.empty() || observed[r * n + i] != 0; };
    for (size_t i = 0; i < n; ++i) {
      if (!counts(i)) continue;
      sum += x[r * n + i];
      count += 1.0;
    }
    const double mean = count > 0.0 ? sum / count : 0.0;
    for (size_t i = 0; i < n; ++i) square += counts(i) ? (x[r * n + i] - mean) * (x[r * n + i] - mean) : 0.0;
    const double std = count > 0.0 ? std::sqrt(square / count + kEps) : 1.0;
    e.mean.push_back(mean);
    e.std.push_back(std);
    const size_t c = gamma.empty() ? 0 : r % gamma.size();
    for (size_t i = 0; i < n; ++i) {
      const double normed = (x[r * n + i] - mean) / std;
      const double y = gamma.empty() ? normed : normed * gamma[c] + beta[c];
      e.y.push_back(counts(i) ? y : 0.0);
    }
  }
  return e;
}

// Every third value is missing, and the whole second row.
std::vector<uint8_t> some_missing(int64_t rows, int64_t length) {
  std::vector<uint8_t> observed(static_cast<size_t>(rows * length), 1);
  for (size_t i = 0; i < observed.size(); i += 3) observed[i] = 0;
  std::fill_n(observed.begin() + length, length, uint8_t{0});
  return observed;
}

InstanceNormOptions options() {
  InstanceNormOptions o;
  o.type = element();
  return o;
}

TEST_P(InstanceNorm, ValuesAndStatisticsEqualFp64Oracle) {
  for (const auto& [rows, length, missing] :
       {std::tuple{3, 1, false}, {4, 37, false}, {2, 96, false}, {4, 37, true}, {2, 5, true}, {130, 8, false}}) {
    Vec xv = data_vec(1, rows * length, 3.0);
    const auto observed = missing ? some_missing(rows, length) : std::vector<uint8_t>{};
    const Expected e = oracle(xv, observed, length, {}, {});
    for (size_t i = 0; i < observed.size(); ++i) xv[i] = observed[i] != 0 ? xv[i] : kNaN;
    InstanceNormOptions o = options();
    if (missing) o.observed = to_flags(observed, {rows, length});
    Tape tape;
    const InstanceNormed out = instance_norm(tape, tape.input(to_data(xv, {rows, length})), o);
    EXPECT_FALSE(out.normed.requires_grad());
    EXPECT_EQ(out.normed.value().dtype(), element());
    expect_close(to_vec(out.normed.value()), e.y, 1e-6, "y");
    expect_close(to_vec(out.mean), e.mean, 1e-6, "mean");
    expect_close(to_vec(out.std), e.std, 1e-6, "std");
  }
}

TEST_P(InstanceNorm, OfKindLastSubtractsTheLastObservedValue) {
  for (const auto& [rows, length, missing] : {std::tuple{3, 1, false}, {4, 37, false}, {4, 37, true}, {2, 96, true}}) {
    Vec xv = data_vec(1, rows * length, 3.0);
    auto observed = missing ? some_missing(rows, length) : std::vector<uint8_t>(xv.size(), 1);
    if (missing) observed[static_cast<size_t>(length - 1)] = observed[static_cast<size_t>(length - 2)] = 0;
    Vec y(xv.size(), 0.0), mean;
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      const auto n = static_cast<size_t>(length);
      double last = 0.0;
      for (size_t i = 0; i < n; ++i) last = observed[r * n + i] != 0 ? xv[r * n + i] : last;
      mean.push_back(last);
      for (size_t i = 0; i < n; ++i) y[r * n + i] = observed[r * n + i] != 0 ? xv[r * n + i] - last : 0.0;
    }
    for (size_t i = 0; i < observed.size(); ++i) xv[i] = observed[i] != 0 ? xv[i] : kNaN;
    InstanceNormOptions o = options();
    o.kind = InstanceNormKind::last;
    if (missing) o.observed = to_flags(observed, {rows, length});
    Tape tape;
    const InstanceNormed out = instance_norm(tape, tape.input(to_data(xv, {rows, length})), o);
    expect_close(to_vec(out.normed.value()), y, 1e-6, "y");
    expect_close(to_vec(out.mean), mean, 1e-7, "mean");
    expect_close(to_vec(out.std), Vec(static_cast<size_t>(rows), 1.0), 0.0, "std");
  }
}

// fp32 holds such numbers to 1/16: the statistics of what it holds are exact all the same.
TEST_P(InstanceNorm, ALargeOffsetCostsNoDigits) {
  const Vec xv = data_vec(2, 5 * 336, 1e6);
  const Expected e = oracle(xv, {}, 336, {}, {});
  Tape tape;
  const InstanceNormed out = instance_norm(tape, tape.input(to_data(xv, {5, 336})), options());
  expect_close(to_vec(out.normed.value()), e.y, 1e-6, "y");
  expect_close(to_vec(out.mean), e.mean, 1e-7, "mean");
  expect_close(to_vec(out.std), e.std, 1e-6, "std");
}

TEST_P(InstanceNorm, GradientsGoToInputAndParametersAndNotThroughTheStatistics) {
  for (const bool missing : {false, true}) {
    const int64_t rows = 6, length = 19, channels = 3;
    const Vec xv = data_vec(1, rows * length, 2.0), dy = random_vec(2, rows * length), dx0 = data_vec(3, rows * length);
    const Vec gv = random_vec(4, channels), bv = random_vec(5, channels);
    const auto observed = missing ? some_missing(rows, length) : std::vector<uint8_t>(xv.size(), 1);
    ParameterStore store;
    Parameter &gamma = add_parameter(store, "gamma", {channels}), &beta = add_parameter(store, "beta", {channels});
    allocate(store);
    assign(gamma.value, gv);
    assign(beta.value, bv);
    InstanceNormOptions o = options();
    if (missing) o.observed = to_flags(observed, {rows, length});
    o.gamma = &gamma;
    o.beta = &beta;
    for (int round = 1; round <= 2; ++round) {  // the second adds to the gradients of the first
      Tape tape;
      const Var x = tape.input(to_data(xv, {rows, length}), true);
      const InstanceNormed out = instance_norm(tape, x, o);
      const Expected e = oracle(xv, observed, length, gv, bv);
      expect_close(to_vec(out.normed.value()), e.y, 1e-6, "y");
      tape.backward(weighted_sum(tape, {x, out.normed}, {dx0, dy}));
      Vec dx = dx0, dgamma(channels, 0.0), dbeta(channels, 0.0);
      for (size_t i = 0; i < xv.size(); ++i) {
        if (observed[i] == 0) continue;
        const size_t r = i / length, c = r % channels;
        dx[i] += dy[i] * gv[c] / e.std[r];
        dgamma[c] += round * dy[i] * (xv[i] - e.mean[r]) / e.std[r];
        dbeta[c] += round * dy[i];
      }
      expect_close(to_vec(x.grad()), dx, 1e-5, "dx");
      expect_close(to_vec(gamma.grad), dgamma, 1e-5, "dgamma");
      expect_close(to_vec(beta.grad), dbeta, 1e-5, "dbeta");
    }
  }
}

TEST_P(InstanceNorm, BitsDoNotDependOnTheThreadCount) {
  const Vec xv = data_vec(1, 90 * 100), dy = random_vec(2, 90 * 100);
  const auto run = [&] {
    ParameterStore store;
    Parameter &gamma = add_parameter(store, "gamma", {9}), &beta = add_parameter(store, "beta", {9});
    allocate(store);
    assign(gamma.value, random_vec(3, 9));
    InstanceNormOptions o = options();
    o.gamma = &gamma;
    o.beta = &beta;
    Tape tape;
    const Var x = tape.input(to_data(xv, {90, 100}), true);
    const InstanceNormed out = instance_norm(tape, x, o);
    const Vec y = to_vec(out.normed.value());
    tape.backward(weighted_sum(tape, {out.normed}, {dy}));
    return std::vector<Vec>{y, to_vec(out.mean), to_vec(x.grad()), to_vec(gamma.grad), to_vec(beta.grad)};
  };
  EXPECT_EQ(with_threads(1, run), with_threads(2, run));
}

TEST(InstanceNormShape, WhatDoesNotFitIsRefused) {
  ParameterStore store;
  Parameter &gamma = add_parameter(store, "gamma", {4}), &beta = add_parameter(store, "beta", {4});
  allocate(store);
  Tape tape;
  const Var x = tape.input(Tensor::zeros({6, 5}));
  InstanceNormOptions o;
  o.gamma = &gamma;
  EXPECT_THROW(instance_norm(tape, x, o), Error);
  o.beta = &beta;
  EXPECT_THROW(instance_norm(tape, x, o), Error);
  InstanceNormOptions flags;
  flags.observed = Tensor::zeros({6, 4}, DType::u8);
  EXPECT_THROW(instance_norm(tape, x, flags), Error);
  InstanceNormOptions half;
  half.type = DType::bf16;
  EXPECT_THROW(instance_norm(tape, x, half), Error);
}

}  // namespace
}  // namespace farsight
