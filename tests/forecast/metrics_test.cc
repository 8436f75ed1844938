// SPDX-License-Identifier: Apache-2.0
// The metrics of forecasts against cases worked out by hand.
#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "trainer/forecast/forecast_metrics.h"

namespace farsight {
namespace {

// One channel, five steps.
constexpr int64_t kSteps = 5;

MetricValues of_five(const std::vector<double>& truth, const std::vector<double>& point, MetricsShape shape = {},
                     const std::vector<double>& quantiles = {}, std::vector<uint8_t> observed = {}) {
  shape.channels = 1;
  shape.horizon = kSteps;
  if (observed.empty()) observed.assign(kSteps, 1);
  ForecastMetrics metrics(shape);
  metrics.add({.point = point, .quantiles = quantiles}, {.values = truth, .observed = observed});
  return metrics.total();
}

TEST(Metrics, ErrorsOfFiveSteps) {
  // Errors 1, -2, 0, 3, -1: squares 15, absolute values 7. Original units: times 2.
  const MetricValues m =
      of_five({1, 2, 3, 4, 5}, {0, 4, 3, 1, 6}, {.scale = {{.mean = 10.0, .scale = 2.0}}, .mase_scale = {0.5}});
  EXPECT_EQ(m.count, 5.0);
  EXPECT_DOUBLE_EQ(m.mse, 3.0);
  EXPECT_DOUBLE_EQ(m.mae, 1.4);
  EXPECT_DOUBLE_EQ(m.rmse, std::sqrt(3.0));
  EXPECT_DOUBLE_EQ(m.mse_original, 12.0);
  EXPECT_DOUBLE_EQ(m.mae_original, 2.8);
  EXPECT_DOUBLE_EQ(m.rmse_original, std::sqrt(12.0));
  ASSERT_TRUE(m.mase.has_value());
  EXPECT_DOUBLE_EQ(*m.mase, 5.6);  // 2.8 / 0.5
  EXPECT_EQ(m.mase_channels_left_out, 0);
  // y 12 14 16 18 20, f 10 18 16 12 22: 2 * (2/22 + 4/32 + 0 + 6/30 + 2/42) / 5.
  EXPECT_DOUBLE_EQ(m.smape, 2.0 * (2.0 / 22 + 4.0 / 32 + 6.0 / 30 + 2.0 / 42) / 5.0);
}

TEST(Metrics, SmapeOfZerosIsZeroAndOfOppositeSignsTwo) {
  EXPECT_EQ(of_five({0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}).smape, 0.0);
  EXPECT_DOUBLE_EQ(of_five({0, 1, 0, -1, 0}, {0, -1, 0, 1, 5}).smape, 3.0 * 2.0 / 5.0);
}

TEST(Metrics, UnobservedStepsAreInNoCount) {
  const MetricValues m = of_five({1, 99, 3, 4, 5}, {0, 4, 3, 1, 6}, {}, {}, {1, 0, 1, 1, 1});
  EXPECT_EQ(m.count, 4.0);
  EXPECT_DOUBLE_EQ(m.mse, 11.0 / 4.0);
  const MetricValues none = of_five({1, 2, 3, 4, 5}, {0, 4, 3, 1, 6}, {.mase_scale = {1.0}}, {}, {0, 0, 0, 0, 0});
  EXPECT_EQ(none.count, 0.0);
  EXPECT_FALSE(none.mase.has_value());
}

TEST(Metrics, AChannelWithoutMaseScaleIsCountedAndLeftOut) {
  MetricsShape shape{.channels = 2, .horizon = 1, .mase_scale = {0.0, 4.0}};
  ForecastMetrics metrics(shape);
  metrics.add({.point = {0, 0}, .quantiles = {}}, {.values = {1, 2}, .observed = {1, 1}});
  EXPECT_FALSE(metrics.channel(0).mase.has_value());
  EXPECT_EQ(metrics.channel(0).mase_channels_left_out, 1);
  EXPECT_DOUBLE_EQ(metrics.total().mase.value(), 0.5);
  EXPECT_EQ(metrics.total().mase_channels_left_out, 1);
}

TEST(Metrics, QuantileLossOfFiveSteps) {
  // Levels .1 .5 .9 are y - 1, y, y + 2 except at the last step, where all are y + 1.
  const std::vector<double> y = {1, -2, 3, 4, 5};
  std::vector<double> quantiles;
  for (size_t h = 0; h < 4; ++h) quantiles.insert(quantiles.end(), {y[h] - 1, y[h], y[h] + 2});
  quantiles.insert(quantiles.end(), {y[4] + 1, y[4] + 1, y[4] + 1});
  const MetricValues m = of_five(y, y, {.levels = {.1, .5, .9}}, quantiles);
  // Pinball: .1: 4 * .1 + .9; .5: .5; .9: 4 * .2 + .1. sum |y| = 15.
  const double low = 1.3, middle = .5, high = .9;
  EXPECT_NEAR(m.wql.value(), 2.0 * (low + middle + high) / 3.0 / 15.0, 1e-15);
  EXPECT_NEAR(m.crps.value(), 2.0 * (low + middle + high) / 3.0 / 5.0, 1e-15);
  ASSERT_EQ(m.intervals.size(), 1U);
  EXPECT_EQ(m.intervals[0].low, .1);
  EXPECT_EQ(m.intervals[0].high, .9);
  EXPECT_DOUBLE_EQ(m.intervals[0].coverage, .8);
  EXPECT_DOUBLE_EQ(m.intervals[0].width, 4.0 * 3.0 / 5.0);
}

TEST(Metrics, WqlOfZerosHasNoValue) {
  const MetricValues m = of_five({0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}, {.levels = {.5}}, {1, 1, 1, 1, 1});
  EXPECT_FALSE(m.wql.has_value());
  EXPECT_DOUBLE_EQ(m.crps.value(), 1.0);
}

// Quantiles of the standard normal distribution by bisection of erfc.
double normal_quantile(double level) {
  double low = -10.0, high = 10.0;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (0.5 * std::erfc(-middle / std::numbers::sqrt2) < level ? low : high) = middle;
  }
  return low;
}

TEST(Metrics, CrpsOfManyLevelsIsThatOfTheDistribution) {
  MetricsShape shape{.channels = 1, .horizon = 1};
  std::vector<double> quantiles;
  for (int i = 1; i <= 99; ++i) {
    shape.levels.push_back(i / 100.0);
    quantiles.push_back(normal_quantile(i / 100.0));
  }
  ForecastMetrics metrics(shape);
  metrics.add({.point = {0.0}, .quantiles = quantiles}, {.values = {0.0}, .observed = {1}});
  EXPECT_NEAR(metrics.total().crps.value(), 0.233695, 0.01 * 0.233695);
  ASSERT_EQ(metrics.total().intervals.size(), 49U);
  EXPECT_DOUBLE_EQ(metrics.total().intervals[0].coverage, 1.0);
  EXPECT_NEAR(metrics.total().intervals[0].width, 2.0 * 2.3263478740, 1e-9);  // +- 2.326: 98 %
}

TEST(Metrics, SeasonsOfFrequencies) {
  const auto season = [](const char* text) { return usual_season(parse_frequency(text)); };
  EXPECT_EQ(season("1h"), 24);
  EXPECT_EQ(season("15min"), 96);
  EXPECT_EQ(season("1d"), 7);
  EXPECT_EQ(season("7d"), 52);
  EXPECT_EQ(season("1M"), 12);
  EXPECT_EQ(season("3M"), 4);
  EXPECT_EQ(season("12M"), 1);
  EXPECT_EQ(season("irregular"), 1);
}

}  // namespace
}  // namespace farsight
