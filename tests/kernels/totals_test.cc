// SPDX-License-Identifier: Apache-2.0
#include "kernels/totals.h"

#include <limits>

#include "kernels/adamw.h"
#include "kernels/error.h"
#include "kernels/sgd.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Totals : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Totals, ::testing::ValuesIn(targets()), target_name);

std::vector<float> floats(const Vec& v) { return {v.begin(), v.end()}; }

double number(const Tensor& total) { return *total.to(Device::cpu).data<double>(); }

double squares(const std::vector<float>& values) {
  const Tensor total = Tensor::zeros({1}, DType::f64);
  add_squares(device_copy(values), 1.0, total);
  return number(total);
}

double sum(const std::vector<float>& values) {
  const Tensor total = Tensor::zeros({1}, DType::f64);
  add_sum(device_copy(values), 1.0, total);
  return number(total);
}

TEST_P(Totals, EqualPlainSumsForAnySize) {
  for (const int64_t n : {0, 1, 7, 33, 16384, 50003}) {
    const Vec v = random_vec(1, n);
    double plain = 0.0, magnitude = 0.0;
    for (const float x : floats(v)) {
      plain += static_cast<double>(x);
      magnitude += std::abs(static_cast<double>(x));
    }
    EXPECT_NEAR(squares(floats(v)), dot(v, v), 1e-7 * dot(v, v)) << n;
    EXPECT_NEAR(sum(floats(v)), plain, 1e-14 * magnitude) << n;
  }
}

TEST_P(Totals, AddUpWithTheirWeights) {
  const Tensor total = device_copy(std::vector<double>{3.0}), other = device_copy(std::vector<double>{0.125});
  const Tensor values = device_copy(std::vector<float>{1.0F, -3.0F}), rounded = Tensor::zeros({1});
  add_sum(values, 0.5, total, rounded);  // 3 - 1
  EXPECT_EQ(to_vec(rounded), Vec{2.0});
  add_squares(values, 2.0, total);  // 2 + 20
  add_total(other, total);
  EXPECT_EQ(number(total), 22.125);
  EXPECT_THROW(add_sum(values, 1.0, Tensor::zeros({2}, DType::f64)), Error);
  EXPECT_THROW(add_total(values, total), Error);
}

TEST_P(Totals, BitsDoNotDependOnTheThreadCount) {
  const auto v = floats(random_vec(1, 200001));
  EXPECT_EQ(with_threads(1, [&] { return squares(v); }), with_threads(3, [&] { return squares(v); }));
  EXPECT_EQ(with_threads(1, [&] { return sum(v); }), with_threads(3, [&] { return sum(v); }));
}

TEST_P(Totals, NonFiniteElementsShowAndHugeOnesDoNotOverflow) {
  auto v = floats(random_vec(1, 20000));
  v[100] = 3e38F;
  EXPECT_TRUE(std::isfinite(squares(v)));
  for (const size_t at : {size_t{0}, size_t{16383}, size_t{19999}}) {
    auto bad = v;
    bad[at] = std::numeric_limits<float>::infinity();
    EXPECT_FALSE(std::isfinite(squares(bad)));
    bad[at] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(squares(bad)));
  }
}

float gate_of(const std::vector<double>& totals, double max_norm) {
  const Tensor gate = Tensor::zeros({1});
  update_gate(device_copy(totals), max_norm, gate);
  return *gate.to(Device::cpu).data<float>();
}

TEST_P(Totals, TheGateIsTheClipFactorOrShut) {
  EXPECT_EQ(clip_factor(0.5, 1.0), 1.0);
  EXPECT_DOUBLE_EQ(clip_factor(4.0, 1.0), 1.0 / (4.0 + 1e-6));
  EXPECT_EQ(clip_factor(4.0, 0.0), 1.0);
  EXPECT_EQ(gate_of({7.0, 0.25}, 1.0), 1.0F);
  EXPECT_EQ(gate_of({7.0, 16.0}, 1.0), static_cast<float>(1.0 / (4.0 + 1e-6)));
  EXPECT_EQ(gate_of({7.0, 16.0}, 0.0), 1.0F);
  EXPECT_EQ(gate_of({0.0}, 1.0), 1.0F);
  for (const double bad : {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                           std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_TRUE(std::isnan(gate_of({bad, 16.0}, 1.0))) << bad;
    EXPECT_TRUE(std::isnan(gate_of({7.0, bad}, 0.0))) << bad;
  }
}

// Values and state after two steps, the second one under the gate.
template <class Update>
std::vector<Vec> updated(float gate, const Update& update) {
  const int64_t n = 5003;
  const Tensor values = device_copy(floats(random_vec(1, n))), gradients = device_copy(floats(random_vec(2, n)));
  const Tensor first = Tensor::zeros({n}), second = Tensor::zeros({n});
  const Tensor rounded = current_device() == Device::cpu ? Tensor() : Tensor::zeros({n}, DType::bf16);
  const auto state = [&] {
    std::vector<Vec> all{to_vec(values), to_vec(first), to_vec(second)};
    if (rounded.defined()) all.push_back(to_vec(rounded));
    return all;
  };
  update(values, gradients, first, second, rounded, 0.5, Tensor());
  const auto before = state();
  update(values, gradients, first, second, rounded, 9.0, device_copy(std::vector<float>{gate}));
  const auto after = state();
  if (std::isnan(gate)) {
    EXPECT_EQ(before, after);
  } else {
    EXPECT_NE(before, after);
  }
  return after;
}

// The gate takes the place of the host's factor, with the same bits; shut, it leaves everything alone.
template <class Update>
void check_gated(const Update& update) {
  const auto gated = updated(0.3F, update);
  const auto told = updated(0.3F, [&](const Tensor& values, const Tensor& gradients, const Tensor& first,
                                      const Tensor& second, const Tensor& rounded, double scale, const Tensor& gate) {
    update(values, gradients, first, second, rounded, gate.defined() ? static_cast<double>(0.3F) : scale, Tensor());
  });
  EXPECT_EQ(gated, told);
  updated(std::numeric_limits<float>::quiet_NaN(), update);
}

TEST_P(Totals, OptimizersObeyTheGate) {
  const OptimizerRange ranges[] = {{0, 4096, 1.0F, true}, {4096, 907, 0.5F, false}};
  check_gated([&](const Tensor& values, const Tensor& gradients, const Tensor& first, const Tensor& second,
                  const Tensor& rounded, double scale, const Tensor& gate) {
    adamw(values, gradients, first, second, ranges, {1e-2, 0.9, 0.95, 1e-8, 0.1, scale, 3}, rounded, gate);
  });
  check_gated([&](const Tensor& values, const Tensor& gradients, const Tensor& first, const Tensor&,
                  const Tensor& rounded, double scale, const Tensor& gate) {
    sgd(values, gradients, first, ranges, {1e-2, 0.9, 0.1, scale}, rounded, gate);
  });
}

}  // namespace
}  // namespace farsight
