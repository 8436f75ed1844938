// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/forecast_metrics.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"

namespace farsight {
namespace {

// Kinds of sums, each [C, H]. Behind them: one pinball loss per level, then inside and width of each interval.
enum Kind : size_t { kCount, kSquared, kAbsolute, kSmape, kAbsTruth, kFixedKinds };

double pinball(double level, double truth, double quantile) {
  const double u = truth - quantile;
  return std::max(level * u, (level - 1.0) * u);
}

// All levels where they are evenly spaced; else tenths, if all of them are there: levels that are there for an interval
// must not change the mean over levels.
std::vector<size_t> scored_levels(const std::vector<double>& levels) {
  constexpr int kTenths = 9;
  std::vector<size_t> tenths, all;
  for (size_t q = 0; q < levels.size(); ++q) {
    all.push_back(q);
    const double tenth = static_cast<double>(tenths.size() + 1) / (kTenths + 1);
    if (tenths.size() < kTenths && std::abs(levels[q] - tenth) < 1e-9) tenths.push_back(q);
  }
  bool even = true;
  for (size_t q = 2; q < levels.size(); ++q) {
    even = even && std::abs(levels[q] - 2.0 * levels[q - 1] + levels[q - 2]) < 1e-9;
  }
  return !even && tenths.size() == kTenths ? tenths : all;
}

}  // namespace

ForecastMetrics::ForecastMetrics(MetricsShape shape) : shape_(std::move(shape)) {
  const auto channels = static_cast<size_t>(shape_.channels);
  if (shape_.scale.empty()) shape_.scale.resize(channels);
  if (shape_.scale.size() != channels || (!shape_.mase_scale.empty() && shape_.mase_scale.size() != channels)) {
    fail(ErrorKind::internal, "forecast metrics: {} and {} scales for {} channels", shape_.scale.size(),
         shape_.mase_scale.size(), channels);
  }
  const auto& levels = shape_.levels;
  for (size_t low = 0; low < levels.size() / 2; ++low) {
    for (size_t high = levels.size(); high-- > low + 1;) {
      if (std::abs(levels[low] + levels[high] - 1.0) < 1e-9) pairs_.push_back({low, high});
    }
  }
  scored_ = scored_levels(levels);
  sums_.assign((kFixedKinds + levels.size() + 2 * pairs_.size()) * cells(), 0.0);
}

void ForecastMetrics::add_quantiles(std::span<const double> quantiles, double truth, int64_t cell) {
  const auto& levels = shape_.levels;
  for (size_t q = 0; q < levels.size(); ++q) sum(kFixedKinds + q, cell) += pinball(levels[q], truth, quantiles[q]);
  const size_t first = kFixedKinds + levels.size();
  for (size_t i = 0; i < pairs_.size(); ++i) {
    const double low = quantiles[pairs_[i].low], high = quantiles[pairs_[i].high];
    sum(first + 2 * i, cell) += truth >= low && truth <= high ? 1.0 : 0.0;
    sum(first + 2 * i + 1, cell) += high - low;
  }
}

void ForecastMetrics::add(const ForecastValues& forecast, const ForecastTruth& truth) {
  const size_t levels = shape_.levels.size();
  if (forecast.point.size() != cells() || truth.values.size() != cells() ||
      forecast.quantiles.size() != levels * cells()) {
    fail(ErrorKind::internal, "forecast metrics: {} points and {} quantiles for {} targets", forecast.point.size(),
         forecast.quantiles.size(), cells());
  }
  windows_ += 1.0;
  for (int64_t c = 0; c < shape_.channels; ++c) {
    const ChannelScale& scale = shape_.scale[static_cast<size_t>(c)];
    for (int64_t h = 0; h < shape_.horizon; ++h) {
      const int64_t cell = c * shape_.horizon + h;
      const auto at = static_cast<size_t>(cell);
      if (truth.observed[at] == 0) continue;
      const double y = truth.values[at], f = forecast.point[at], error = y - f;
      sum(kCount, cell) += 1.0;
      sum(kSquared, cell) += error * error;
      sum(kAbsolute, cell) += std::abs(error);
      const double y_original = y * scale.scale + scale.mean, f_original = f * scale.scale + scale.mean;
      const double size = std::abs(y_original) + std::abs(f_original);
      sum(kSmape, cell) += size > 0.0 ? 2.0 * std::abs(y_original - f_original) / size : 0.0;
      sum(kAbsTruth, cell) += std::abs(y_original);
      if (levels > 0) add_quantiles(std::span(forecast.quantiles).subspan(at * levels, levels), y, cell);
    }
  }
}

void ForecastMetrics::reduce(Communicator& world) {
  std::vector<double> all = sums_;
  all.push_back(windows_);
  world.all_reduce(std::span<double>(all), ReduceOp::sum);
  windows_ = all.back();
  all.pop_back();
  sums_ = std::move(all);
}

MetricValues ForecastMetrics::over(int64_t first_channel, int64_t last_channel, int64_t first_step,
                                   int64_t last_step) const {
  const auto& levels = shape_.levels;
  MetricValues m;
  double abs_truth = 0.0, mase = 0.0, squared_original = 0.0, absolute_original = 0.0;
  std::vector<double> pinballs(levels.size()), pinballs_z(levels.size());
  std::vector<double> inside(pairs_.size()), width(pairs_.size()), width_z(pairs_.size());
  int64_t mase_channels = 0;
  for (int64_t c = first_channel; c < last_channel; ++c) {
    const double scale = shape_.scale[static_cast<size_t>(c)].scale;
    double absolute = 0.0, count = 0.0;
    for (int64_t h = first_step; h < last_step; ++h) {
      const int64_t cell = c * shape_.horizon + h;
      count += sum(kCount, cell);
      absolute += sum(kAbsolute, cell);
      m.mse += sum(kSquared, cell);
      squared_original += sum(kSquared, cell) * scale * scale;
      m.smape += sum(kSmape, cell);
      abs_truth += sum(kAbsTruth, cell);
      for (size_t q = 0; q < levels.size(); ++q) {
        pinballs_z[q] += sum(kFixedKinds + q, cell);
        pinballs[q] += sum(kFixedKinds + q, cell) * scale;
      }
      for (size_t i = 0; i < pairs_.size(); ++i) {
        const size_t kind = kFixedKinds + levels.size() + 2 * i;
        inside[i] += sum(kind, cell);
        width_z[i] += sum(kind + 1, cell);
        width[i] += sum(kind + 1, cell) * scale;
      }
    }
    m.count += count;
    m.mae += absolute;
    absolute_original += absolute * scale;
    if (shape_.mase_scale.empty() || count == 0.0) continue;
    const double unit = shape_.mase_scale[static_cast<size_t>(c)];
    if (unit > 0.0) {
      mase += absolute * scale / count / unit;
      ++mase_channels;
    } else {
      ++m.mase_channels_left_out;
    }
  }
  if (m.count == 0.0) return m;
  m.mse /= m.count;
  m.mae /= m.count;
  m.rmse = std::sqrt(m.mse);
  m.mse_original = squared_original / m.count;
  m.mae_original = absolute_original / m.count;
  m.rmse_original = std::sqrt(m.mse_original);
  m.smape /= m.count;
  if (mase_channels > 0) m.mase = mase / static_cast<double>(mase_channels);
  if (levels.empty()) return m;
  double crps = 0.0, crps_z = 0.0;
  for (const size_t q : scored_) {
    crps += pinballs[q];
    crps_z += pinballs_z[q];
  }
  const double factor = 2.0 / static_cast<double>(scored_.size());
  m.crps = factor * crps_z / m.count;
  m.crps_original = factor * crps / m.count;
  if (abs_truth > 0.0) m.wql = factor * crps / abs_truth;
  for (size_t i = 0; i < pairs_.size(); ++i) {
    m.intervals.push_back(
        {levels[pairs_[i].low], levels[pairs_[i].high], inside[i] / m.count, width[i] / m.count, width_z[i] / m.count});
  }
  return m;
}

std::vector<double> mase_scales(SeriesFiles& files, std::span<const int64_t> targets, int64_t season) {
  std::vector<double> sums(targets.size()), counts(targets.size());
  const int64_t channels = files.channel_count();
  for (const SplitRange& range : files.split("train")) {
    const int64_t count = range.end - range.begin;
    const float* values = files.values(range.series, range.begin, count);
    const uint8_t* mask = files.mask(range.series, range.begin, count);
    for (int64_t t = season; t < count; ++t) {
      for (size_t i = 0; i < targets.size(); ++i) {
        const int64_t now = t * channels + targets[i], before = (t - season) * channels + targets[i];
        if (mask != nullptr && (mask[now] == 0 || mask[before] == 0)) continue;
        sums[i] += std::abs(static_cast<double>(values[now]) - static_cast<double>(values[before]));
        counts[i] += 1.0;
      }
    }
  }
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = counts[i] > 0.0 ? sums[i] / counts[i] : 0.0;
  return sums;
}

int64_t usual_season(const Frequency& frequency) {
  constexpr int64_t kSecond = 1'000'000'000, kHour = 3600 * kSecond, kDay = 24 * kHour;
  if (frequency.months > 0) return std::max<int64_t>(1, 12 / frequency.months);
  if (frequency.step_ns <= 0) return 1;
  if (frequency.step_ns < kDay) return std::max<int64_t>(1, kDay / frequency.step_ns);
  if (frequency.step_ns == kDay) return 7;
  return frequency.step_ns == 7 * kDay ? 52 : 1;
}

}  // namespace farsight
