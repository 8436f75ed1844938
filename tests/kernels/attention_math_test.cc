// SPDX-License-Identifier: Apache-2.0
// The tiles' own exponential, reciprocal and Philox on every Highway target, against fp64 and the scalar definition.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/attention_math_test.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/attention/policies-inl.h"
#include "kernels/attention/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

void ExpOf(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) hn::StoreU(tile_exp(hn::LoadU(TileTag(), x + i)), TileTag(), y + i);
}

void ReciprocalOf(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) hn::StoreU(tile_reciprocal(hn::LoadU(TileTag(), x + i)), TileTag(), y + i);
}

void PhiloxOf(uint64_t key, uint32_t position, uint32_t head, const int32_t* quads, int64_t n, uint32_t* words) {
  philox_words(key, position, head, quads, n, words);
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {

HWY_EXPORT(ExpOf);
HWY_EXPORT(ReciprocalOf);
HWY_EXPORT(PhiloxOf);

constexpr size_t kPoints = 1 << 16;

class TileMath : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { choose(GetParam()); }
  void TearDown() override { choose(0); }
  static void choose(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST_P(TileMath, ExponentialIsWithinTwoTenMillionths) {
  std::vector<float> x(kPoints), y(kPoints);
  for (size_t i = 0; i < kPoints; ++i) x[i] = -87.0F + 90.0F * static_cast<float>(i) / static_cast<float>(kPoints);
  HWY_DYNAMIC_DISPATCH(ExpOf)(x.data(), y.data(), static_cast<int64_t>(kPoints));
  double error = 0.0;
  for (size_t i = 0; i < kPoints; ++i) {
    error = std::max(error, std::abs(static_cast<double>(y[i]) / std::exp(static_cast<double>(x[i])) - 1.0));
  }
  EXPECT_LE(error, 2e-7);
}

TEST_P(TileMath, ExponentialOfSpecialValues) {
  std::vector<float> x(16, 0.0F), y(16);
  x[1] = -87.5F;
  x[2] = -3e38F;
  x[3] = -std::numeric_limits<float>::infinity();
  x[4] = std::numeric_limits<float>::quiet_NaN();
  HWY_DYNAMIC_DISPATCH(ExpOf)(x.data(), y.data(), 16);
  EXPECT_EQ(y[0], 1.0F);
  EXPECT_EQ(y[1], 0.0F);
  EXPECT_EQ(y[2], 0.0F);
  EXPECT_EQ(y[3], 0.0F);
  EXPECT_TRUE(std::isnan(y[4]));
}

TEST_P(TileMath, ReciprocalIsWithinTwoTenMillionths) {
  std::vector<float> x(kPoints), y(kPoints);
  for (size_t i = 0; i < kPoints; ++i) {
    x[i] = static_cast<float>(std::pow(10.0, 37.0 * static_cast<double>(i) / static_cast<double>(kPoints)));
  }
  HWY_DYNAMIC_DISPATCH(ReciprocalOf)(x.data(), y.data(), static_cast<int64_t>(kPoints));
  double error = 0.0;
  for (size_t i = 0; i < kPoints; ++i) {
    error = std::max(error, std::abs(static_cast<double>(y[i]) * static_cast<double>(x[i]) - 1.0));
  }
  EXPECT_LE(error, 2e-7);
}

TEST_P(TileMath, PhiloxWordsAreThoseOfTheScalarDefinition) {
  std::vector<int32_t> quads(24);
  for (size_t i = 0; i < quads.size(); ++i) quads[i] = static_cast<int32_t>(i * i * 1000003U);
  std::vector<uint32_t> words(4 * quads.size());
  HWY_DYNAMIC_DISPATCH(PhiloxOf)(0xDEADBEEF12345678U, 1234567U, 9U, quads.data(), 24, words.data());
  for (size_t i = 0; i < quads.size(); ++i) {
    const auto block = philox(0xDEADBEEF12345678U, {1234567U, static_cast<uint32_t>(quads[i]), 9U, 0U});
    for (size_t w = 0; w < 4; ++w) ASSERT_EQ(words[4 * i + w], block[w]) << i << " " << w;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, TileMath, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace farsight
#endif  // HWY_ONCE
