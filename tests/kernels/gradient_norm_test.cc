// SPDX-License-Identifier: Apache-2.0
#include "kernels/gradient_norm.h"

#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class GradientNorm : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, GradientNorm, ::testing::ValuesIn(targets()), target_name);

std::vector<float> floats(const Vec& v) { return {v.begin(), v.end()}; }

TEST_P(GradientNorm, EqualsPlainSumForAnySize) {
  for (const int64_t n : {0, 1, 7, 33, 16384, 50003}) {
    const Vec v = random_vec(1, n);
    double largest = 0.0;
    for (const double x : v) largest = std::max(largest, std::abs(x));
    EXPECT_NEAR(sum_of_squares(device_copy(floats(v))), dot(v, v), 1e-12 * dot(v, v)) << n;
    EXPECT_EQ(largest_magnitude(device_copy(floats(v))), largest) << n;
  }
}

TEST_P(GradientNorm, BitsDoNotDependOnTheThreadCount) {
  const auto v = floats(random_vec(1, 200001));
  const auto run = [&] { return sum_of_squares(device_copy(v)); };
  EXPECT_EQ(with_threads(1, run), with_threads(3, run));
}

TEST_P(GradientNorm, NonFiniteElementsShowAndHugeOnesDoNotOverflow) {
  auto v = floats(random_vec(1, 20000));
  v[100] = 3e38F;
  EXPECT_TRUE(std::isfinite(sum_of_squares(device_copy(v))));
  EXPECT_EQ(largest_magnitude(device_copy(v)), static_cast<double>(3e38F));
  for (const size_t at : {size_t{0}, size_t{16383}, size_t{19999}}) {
    auto bad = v;
    bad[at] = std::numeric_limits<float>::infinity();
    EXPECT_FALSE(std::isfinite(sum_of_squares(device_copy(bad))));
    EXPECT_TRUE(std::isinf(largest_magnitude(device_copy(bad))));
    bad[at] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(sum_of_squares(device_copy(bad))));
    EXPECT_TRUE(std::isnan(largest_magnitude(device_copy(bad))));
  }
}

TEST(ClipFactor, IsTheFormula) {
  EXPECT_EQ(clip_factor(0.5, 1.0), 1.0);
  EXPECT_DOUBLE_EQ(clip_factor(4.0, 1.0), 1.0 / (4.0 + 1e-6));
  EXPECT_EQ(clip_factor(4.0, 0.0), 1.0);
}

}  // namespace
}  // namespace farsight
