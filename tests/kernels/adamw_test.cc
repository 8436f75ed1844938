// SPDX-License-Identifier: Apache-2.0
#include "kernels/adamw.h"

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class AdamW : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, AdamW, ::testing::ValuesIn(targets()), target_name);

struct State {
  std::vector<float> value, gradient, m, v;
  explicit State(int64_t n)
      : value(static_cast<size_t>(n)), gradient(static_cast<size_t>(n)), m(static_cast<size_t>(n), 0.0F), v(m) {}
  void step(std::span<const OptimizerRange> ranges, const AdamWStep& s) {
    if (current_device() == Device::cpu) {
      adamw(value, gradient, m, v, ranges, s);
      return;
    }
    const Tensor tensors[] = {device_copy(value), device_copy(gradient), device_copy(m), device_copy(v)};
    const Tensor rounded = Tensor::zeros({tensors[0].numel()}, DType::bf16);
    adamw(tensors[0], tensors[1], tensors[2], tensors[3], ranges, s, rounded);
    std::vector<float>* const back[] = {&value, &gradient, &m, &v};
    for (size_t i = 0; i < 4; ++i) {
      const Tensor host = tensors[i].to(Device::cpu);
      std::copy_n(host.data<float>(), host.numel(), back[i]->begin());
    }
    const Vec copy = to_vec(rounded);
    for (const auto& r : ranges) {
      for (auto i = static_cast<size_t>(r.begin); i < static_cast<size_t>(r.begin + r.count); ++i) {
        ASSERT_EQ(copy[i], static_cast<double>(bf16_to_float(float_to_bf16(value[i])))) << i;
      }
    }
  }
};

void fill_random(std::vector<float>& to, uint64_t seed) {
  const Vec v = random_vec(seed, static_cast<int64_t>(to.size()));
  for (size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(v[i]);
}

// One element, gradient 0.5, by hand: m = 0.05, v = 0.00025; with the bias corrections m' = 0.5, v' = 0.25, so the
// update is 0.1 * 0.5 / (0.5 + eps) = 0.1 and the decay 0.1 * 0.01 * 2 = 0.002.
TEST_P(AdamW, FirstStepByHand) {
  State s(1);
  s.value = {2.0F};
  s.gradient = {1.0F};
  const OptimizerRange all[] = {{0, 1, 1.0F, true}};
  AdamWStep step;
  step.rate = 0.1;
  step.beta1 = 0.9;
  step.beta2 = 0.999;
  step.weight_decay = 0.01;
  step.gradient_scale = 0.5;
  s.step(all, step);
  EXPECT_NEAR(s.m[0], 0.05, 1e-8);
  EXPECT_NEAR(s.v[0], 0.00025, 1e-10);
  EXPECT_NEAR(s.value[0], 2.0 - 0.1 - 0.002, 2e-7);
}

struct Reference {
  Vec value, m, v;
  void step(const std::vector<float>& gradient, const AdamWStep& s, bool decay, double rate_factor) {
    const double rate = s.rate * rate_factor, t = static_cast<double>(s.step);
    for (size_t i = 0; i < value.size(); ++i) {
      const double g = static_cast<double>(gradient[i]) * s.gradient_scale;
      m[i] = s.beta1 * m[i] + (1.0 - s.beta1) * g;
      v[i] = s.beta2 * v[i] + (1.0 - s.beta2) * g * g;
      const double first = m[i] / (1.0 - std::pow(s.beta1, t)), second = v[i] / (1.0 - std::pow(s.beta2, t));
      value[i] -= rate * ((decay ? s.weight_decay * value[i] : 0.0) + first / (std::sqrt(second) + s.eps));
    }
  }
};

TEST_P(AdamW, TenStepsEqualFp64Reference) {
  for (const bool decay : {false, true}) {
    const int64_t n = 131;
    State s(n);
    fill_random(s.value, 1);
    Reference r{Vec(s.value.begin(), s.value.end()), Vec(static_cast<size_t>(n), 0.0),
                Vec(static_cast<size_t>(n), 0.0)};
    const OptimizerRange all[] = {{0, n, 0.5F, decay}};
    for (int64_t t = 1; t <= 10; ++t) {
      fill_random(s.gradient, 100 + static_cast<uint64_t>(t));
      const AdamWStep step{3e-3, 0.9, 0.95, 1e-8, 0.1, 0.7, t};
      s.step(all, step);
      r.step(s.gradient, step, decay, 0.5);
    }
    expect_close(Vec(s.value.begin(), s.value.end()), r.value, 5e-7, "value");
    expect_close(Vec(s.m.begin(), s.m.end()), r.m, 1e-6, "m");
    expect_close(Vec(s.v.begin(), s.v.end()), r.v, 1e-6, "v");
  }
}

// The scalar form of the same fp32 operations, bit for bit on every target, whatever the cut into ranges and threads.
TEST_P(AdamW, BitsDoNotDependOnTargetRangesOrThreads) {
  const int64_t n = 150001;
  State whole(n);
  fill_random(whole.value, 1);
  fill_random(whole.gradient, 2);
  fill_random(whole.m, 3);
  fill_random(whole.v, 4);
  for (auto& v : whole.v) v = std::abs(v);
  State cut = whole, plain = whole;
  const AdamWStep step{1e-2, 0.9, 0.95, 1e-8, 0.1, 0.3, 4};
  const OptimizerRange all[] = {{0, n, 1.0F, true}};
  const OptimizerRange parts[] = {{70001, n - 70001, 1.0F, true}, {0, 3, 1.0F, true}, {3, 69998, 1.0F, true}};
  with_threads(1, [&] {
    whole.step(all, step);
    return 0;
  });
  with_threads(3, [&] {
    cut.step(parts, step);
    return 0;
  });
  EXPECT_EQ(whole.value, cut.value);
  EXPECT_EQ(whole.m, cut.m);
  EXPECT_EQ(whole.v, cut.v);
  const auto keep = static_cast<float>(1.0 - 1e-2 * 0.1), size = static_cast<float>(1e-2 / (1.0 - std::pow(0.9, 4.0)));
  const auto root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(0.95, 4.0)));
  for (size_t i = 0; i < plain.value.size(); ++i) {
    const float g = plain.gradient[i] * 0.3F;
    const float m = 0.9F * plain.m[i] + static_cast<float>(1.0 - 0.9) * g;
    const float v = 0.95F * plain.v[i] + static_cast<float>(1.0 - 0.95) * (g * g);
    plain.value[i] = plain.value[i] * keep - (size * m) / (std::sqrt(v) * root + 1e-8F);
  }
  EXPECT_EQ(whole.value, plain.value);
}

TEST_P(AdamW, ElementsOutsideTheRangesAreLeftAlone) {
  State s(40);
  fill_random(s.value, 1);
  fill_random(s.gradient, 2);
  const State before = s;
  const OptimizerRange range[] = {{7, 20, 1.0F, false}};
  s.step(range, {0.1, 0.9, 0.95, 1e-8, 0.1, 1.0, 1});
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(s.value[i] != before.value[i], i >= 7 && i < 27) << i;
    EXPECT_EQ(s.m[i] != 0.0F, i >= 7 && i < 27) << i;
  }
}

TEST(AdamWErrors, WrongSizesAreRefused) {
  State s(4);
  const OptimizerRange outside[] = {{2, 3, 1.0F, false}};
  EXPECT_THROW(s.step(outside, {}), Error);
  s.m.pop_back();
  EXPECT_THROW(s.step({}, {}), Error);
}

}  // namespace
}  // namespace farsight
