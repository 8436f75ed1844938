// SPDX-License-Identifier: Apache-2.0
// From raw outputs to points and quantiles; the loss that early stopping goes by; learning rates of forecasters.
#include "trainer/forecast/forecast_values.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <gtest/gtest.h>

#include "trainer/best_loss.h"
#include "trainer/optimizer.h"

namespace farsight {
namespace {

double softplus(double x) { return std::log1p(std::exp(x)); }

struct Reading {
  double point = 0.0;
  std::vector<double> quantiles;
};

Reading read(const ForecastLossOptions& loss, const std::vector<float>& raw, const HeadScale& scale = {}) {
  HeadReader reader(loss, forecast_levels(loss));
  EXPECT_EQ(reader.outputs(), static_cast<int64_t>(raw.size()));
  Reading reading;
  reading.quantiles.resize(reader.levels().size());
  reading.point = reader.read(raw, scale, reading.quantiles);
  return reading;
}

constexpr HeadScale kScale{.mean = -3.0, .std = 2.5, .gamma = -0.8, .beta = 0.25};

double location(double raw) { return (raw - kScale.beta) / kScale.gamma * kScale.std + kScale.mean; }
double width(double s) { return s / std::abs(kScale.gamma) * kScale.std; }

TEST(HeadReader, PointsAreTheLocation) {
  for (const ForecastLossKind kind : {ForecastLossKind::mse, ForecastLossKind::mae, ForecastLossKind::huber}) {
    const Reading reading = read({.kind = kind, .levels = {}, .components = {}}, {1.5F}, kScale);
    EXPECT_DOUBLE_EQ(reading.point, location(1.5));
    EXPECT_TRUE(reading.quantiles.empty());
  }
}

TEST(HeadReader, GaussianQuantiles) {
  const ForecastLossOptions loss{.kind = ForecastLossKind::gaussian, .levels = {}, .components = {}};
  const Reading reading = read(loss, {0.5F, -1.25F}, kScale);
  const boost::math::normal_distribution<> law(location(0.5), width(softplus(-1.25) + 1e-6));
  EXPECT_DOUBLE_EQ(reading.point, location(0.5));
  const std::vector<double> levels = usual_levels();
  for (size_t q = 0; q < levels.size(); ++q) {
    EXPECT_NEAR(reading.quantiles[q], boost::math::quantile(law, levels[q]), 1e-12) << levels[q];
  }
  EXPECT_NEAR(reading.quantiles.back() - reading.quantiles.front(), 2.0 * 1.959963984540054 * law.standard_deviation(),
              1e-9);
}

TEST(HeadReader, StudentTQuantiles) {
  const ForecastLossOptions loss{.kind = ForecastLossKind::student_t, .levels = {}, .components = {}};
  const Reading reading = read(loss, {-2.0F, 0.75F, -0.5F}, kScale);
  const boost::math::students_t_distribution<> law(2.0 + softplus(-0.5));
  EXPECT_DOUBLE_EQ(reading.point, location(-2.0));
  const std::vector<double> levels = usual_levels();
  for (size_t q = 0; q < levels.size(); ++q) {
    const double expected = location(-2.0) + width(softplus(0.75) + 1e-6) * boost::math::quantile(law, levels[q]);
    EXPECT_NEAR(reading.quantiles[q], expected, 1e-11) << levels[q];
  }
}

// The mass below x by Simpson's rule on the densities, from where they are almost nothing.
double mass_below(const std::function<double(double)>& density, double from, double x) {
  constexpr int kIntervals = 20000;
  const double h = (x - from) / kIntervals;
  double sum = density(from) + density(x);
  for (int i = 1; i < kIntervals; ++i) sum += (i % 2 == 1 ? 4.0 : 2.0) * density(from + i * h);
  return sum * h / 3.0;
}

double normal_density(double x, double mean, double s) {
  const double z = (x - mean) / s;
  return std::exp(-0.5 * z * z) / (s * std::sqrt(2.0 * std::acos(-1.0)));
}

double student_density(double x, double mean, double s, double nu) {
  const double z = (x - mean) / s;
  return std::exp(std::lgamma((nu + 1.0) / 2.0) - std::lgamma(nu / 2.0)) / (s * std::sqrt(nu * std::acos(-1.0))) *
         std::pow(1.0 + z * z / nu, -(nu + 1.0) / 2.0);
}

TEST(HeadReader, MixtureQuantilesHoldTheMassOfTheirLevel) {
  ForecastLossOptions loss{.kind = ForecastLossKind::mixture, .levels = {}, .components = {}};
  loss.components = {{MixtureKind::gaussian, 1.0}, {MixtureKind::student_t, 1.0}, {MixtureKind::fixed, 0.4}};
  // weight, location, s; weight, location, s, nu (heavy, but the tail below -400 is less than 1e-7); weight, location.
  const Reading reading = read(loss, {0.3F, -1.0F, -0.5F, -0.2F, 1.5F, -1.0F, 8.0F, 0.1F, 4.0F}, kScale);
  const double weights[] = {std::exp(0.3F), std::exp(-0.2F), std::exp(0.1F)};
  const double all = weights[0] + weights[1] + weights[2];
  const auto density = [&](double x) {
    return (weights[0] * normal_density(x, location(-1.0), width(softplus(-0.5) + 1e-6)) +
            weights[1] * student_density(x, location(1.5), width(softplus(-1.0) + 1e-6), 2.0 + softplus(8.0)) +
            weights[2] * normal_density(x, location(4.0), width(0.4))) /
           all;
  };
  const double mean = (weights[0] * location(-1.0) + weights[1] * location(1.5) + weights[2] * location(4.0)) / all;
  EXPECT_NEAR(reading.point, mean, 1e-6);
  const std::vector<double> levels = usual_levels();
  for (size_t q = 0; q < levels.size(); ++q) {
    EXPECT_NEAR(mass_below(density, -400.0, reading.quantiles[q]), levels[q], 1e-6) << levels[q];
    if (q > 0) {
      EXPECT_GT(reading.quantiles[q], reading.quantiles[q - 1]);
    }
  }
}

TEST(HeadReader, QuantilesAreSortedAndCrossingsCounted) {
  ForecastLossOptions loss{.kind = ForecastLossKind::quantile, .levels = {0.1, 0.45, 0.6, 0.9}, .components = {}};
  HeadReader reader(loss, loss.levels);
  std::vector<double> q(4);
  EXPECT_EQ(reader.read(std::vector<float>{1.0F, 2.0F, 3.0F, 4.0F}, {}, q), 2.0);  // the level nearest to 0.5
  EXPECT_EQ(reader.crossings(), 0);
  EXPECT_EQ(reader.read(std::vector<float>{2.0F, 1.0F, 4.0F, 3.0F}, {}, q), 2.0);
  EXPECT_EQ(q, (std::vector<double>{1.0, 2.0, 3.0, 4.0}));
  EXPECT_EQ(reader.crossings(), 2);
  reader.read(std::vector<float>{4.0F, 3.0F, 2.0F, 1.0F}, {.mean = 10.0, .std = 2.0}, q);
  EXPECT_EQ(q, (std::vector<double>{12.0, 14.0, 16.0, 18.0}));
  EXPECT_EQ(reader.crossings(), 5);
}

// Evenly spaced uniform numbers give draws whose quantiles are those of the head.
TEST(HeadReader, DrawsFollowTheDistribution) {
  ForecastLossOptions mixture{.kind = ForecastLossKind::mixture, .levels = {}, .components = {}};
  mixture.components = {{MixtureKind::gaussian, 1.0}, {MixtureKind::student_t, 1.0}, {MixtureKind::fixed, 0.4}};
  const std::vector<std::pair<ForecastLossOptions, std::vector<float>>> heads{
      {{.kind = ForecastLossKind::gaussian, .levels = {}, .components = {}}, {0.5F, -1.25F}},
      {{.kind = ForecastLossKind::student_t, .levels = {}, .components = {}}, {-2.0F, 0.75F, -0.5F}},
      {mixture, {0.3F, -1.0F, -0.5F, -0.2F, 1.5F, -1.0F, 3.0F, 0.1F, 4.0F}}};
  constexpr int kDraws = 20000;
  for (const auto& [loss, raw] : heads) {
    const HeadReader reader(loss, forecast_levels(loss));
    std::vector<double> draws;
    for (int i = 0; i < kDraws; ++i) draws.push_back(reader.draw(raw, kScale, (i + 0.5) / kDraws));
    std::sort(draws.begin(), draws.end());
    const std::vector<double> expected = read(loss, raw, kScale).quantiles, levels = usual_levels();
    const double spread = expected.back() - expected.front();
    for (size_t q = 0; q < levels.size(); ++q) {
      EXPECT_NEAR(draws[static_cast<size_t>(levels[q] * kDraws)], expected[q], 2e-3 * spread) << levels[q];
    }
  }
}

TEST(HeadReader, DrawsOfQuantilesLieBetweenThem) {
  ForecastLossOptions loss{.kind = ForecastLossKind::quantile, .levels = {0.1, 0.5, 0.9}, .components = {}};
  const HeadReader reader(loss, loss.levels);
  const std::vector<float> raw{2.0F, 1.0F, 4.0F};  // not in order
  for (const auto& [uniform, expected] :
       std::map<double, double>{{0.01, 1.0}, {0.1, 1.0}, {0.2, 1.25}, {0.5, 2.0}, {0.8, 3.5}, {0.95, 4.0}}) {
    EXPECT_NEAR(reader.draw(raw, {}, uniform), expected, 1e-12) << uniform;
  }
}

TEST(BestLossTest, CountsSinceTheBest) {
  BestLoss best;
  EXPECT_FALSE(best.any());
  EXPECT_FALSE(best.exhausted(1));
  EXPECT_FALSE(best.add(std::numeric_limits<double>::quiet_NaN(), 5));
  EXPECT_EQ(best.worse(), 1);
  EXPECT_TRUE(best.add(2.0, 10));
  EXPECT_EQ(best.worse(), 0);
  EXPECT_FALSE(best.add(2.0, 20));  // no better
  EXPECT_FALSE(best.add(std::numeric_limits<double>::infinity(), 30));
  EXPECT_EQ(best.worse(), 2);
  EXPECT_EQ(best.step(), 10);
  EXPECT_TRUE(best.exhausted(2));
  EXPECT_FALSE(best.exhausted(3));
  EXPECT_FALSE(best.exhausted(0));  // never
  std::map<std::string, double> kept;
  best.save(kept);
  BestLoss other;
  other.load(kept);
  EXPECT_EQ(other.loss(), 2.0);
  EXPECT_EQ(other.step(), 10);
  EXPECT_EQ(other.worse(), 2);
  EXPECT_TRUE(other.add(-1.0, 40));
  EXPECT_EQ(other.worse(), 0);
}

TEST(BestLossTest, NothingSavedIsNothingKnown) {
  BestLoss none;
  std::map<std::string, double> kept;
  none.save(kept);
  BestLoss other;
  other.load(kept);
  EXPECT_FALSE(other.any());
  EXPECT_TRUE(other.add(1e300, 1));
  other.load({});  // of a checkpoint that does not know of it
  EXPECT_FALSE(other.any());
}

OptimConfig schedule(ScheduleChoice choice) {
  OptimConfig optim;
  optim.lr = 0.01;
  optim.schedule = choice;
  return optim;
}

TEST(LearningRate, ByEpochs) {
  const RateSpan span{.warmup = 0, .total = 50, .epoch = 10.0};
  const auto rate = [&](ScheduleChoice choice, int64_t step) { return learning_rate(schedule(choice), step, span); };
  struct Point {
    int64_t step;
    double type1, type3, type3_onecycle;
  };
  for (const Point& p : std::vector<Point>{{0, .01, .01, .0004},
                                           {9, .01, .01, .0004},
                                           {10, .005, .01, .01},
                                           {19, .005, .01, .01},
                                           {20, .0025, .009, .009},
                                           {30, .00125, .0081, .0081},
                                           {49, .000625, .00729, .00729}}) {
    EXPECT_NEAR(rate(ScheduleChoice::type1, p.step), p.type1, 1e-15) << p.step;
    EXPECT_NEAR(rate(ScheduleChoice::type3, p.step), p.type3, 1e-15) << p.step;
    EXPECT_NEAR(rate(ScheduleChoice::type3_onecycle, p.step), p.type3_onecycle, 1e-15) << p.step;
  }
}

// An epoch of 8.5 steps: step 8 (the ninth) still belongs to epoch 1, step 9 to epoch 2, step 17 to epoch 3.
TEST(LearningRate, EpochsThatAreNoWholeNumberOfSteps) {
  const RateSpan span{.warmup = 0, .total = 100, .epoch = 8.5};
  for (const auto& [step, expected] : std::map<int64_t, double>{{8, .01}, {9, .005}, {16, .005}, {17, .0025}}) {
    EXPECT_NEAR(learning_rate(schedule(ScheduleChoice::type1), step, span), expected, 1e-15) << step;
  }
}

// 101 steps with pct_start 0.3: up from step 0 to 29.3, down until step 100.
TEST(LearningRate, OneCycle) {
  const RateSpan span{.warmup = 0, .total = 101, .epoch = 0.0};
  OptimConfig optim = schedule(ScheduleChoice::onecycle);
  const double pi = std::acos(-1.0), rise = 0.3 * 101 - 1.0, fall = 101 - rise - 1.0;
  const double low = 0.01 / 25.0, end = low / 1e4;
  double before = 0.0;
  for (int64_t step = 0; step <= 100; ++step) {
    const auto s = static_cast<double>(step);
    const double expected = s <= rise ? low + (0.01 - low) * (1.0 - std::cos(pi * s / rise)) / 2.0
                                      : end + (0.01 - end) * (1.0 + std::cos(pi * (s - rise) / fall)) / 2.0;
    const double found = learning_rate(optim, step, span);
    EXPECT_NEAR(found, expected, 1e-15) << step;
    if (step > 0 && std::abs(s - rise) > 1.0) {
      EXPECT_EQ(found > before, s <= rise) << step;
    }
    before = found;
  }
  EXPECT_NEAR(learning_rate(optim, 0, span), 0.0004, 1e-15);
  EXPECT_NEAR(learning_rate(optim, 100, span), 4e-8, 1e-15);
  optim.pct_start = 0.5;
  EXPECT_NEAR(learning_rate(optim, 50, {.warmup = 0, .total = 102, .epoch = 0.0}), 0.01, 1e-15);
}

TEST(LearningRate, WarmUpComesFirst) {
  const RateSpan span{.warmup = 4, .total = 40, .epoch = 10.0};
  for (const ScheduleChoice choice : {ScheduleChoice::type1, ScheduleChoice::type3, ScheduleChoice::onecycle}) {
    EXPECT_NEAR(learning_rate(schedule(choice), 0, span), 0.0025, 1e-15);
    EXPECT_NEAR(learning_rate(schedule(choice), 3, span), 0.01, 1e-15);
  }
}

}  // namespace
}  // namespace farsight
