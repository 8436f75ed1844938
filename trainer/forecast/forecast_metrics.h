// SPDX-License-Identifier: Apache-2.0
// How good forecasts are: sums and counts in double per target channel and step of the horizon, added over the ranks
// once and divided once, so that no result depends on batches or layout.
//   MSE, MAE, RMSE = sqrt(MSE)                       in z units and in original units
//   sMAPE = mean 2 |y - f| / (|y| + |f|), 0/0 = 0    original units, in [0, 2]
//   MASE = MAE / mean over training rows t >= m of |y_t - y_(t-m)|     (original units; no value for a zero scale)
//   WQL = mean over levels of 2 sum(pinball) / sum|y|;  CRPS = 2 mean over levels of the mean pinball; both over all
//   levels where they are evenly spaced, else over 0.1, 0.2 .. 0.9 where all of these are there
//   coverage and mean width of the intervals between two levels
// Source: forecasting specification, section 5.4; Gneiting & Raftery 2007 (doi:10.1198/016214506000001437).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/series_windows.h"
#include "parallel/comm.h"

namespace farsight {

// A forecast of one window, z units. C target channels, H steps, Q levels.
struct ForecastValues {
  std::vector<double> point;      // [C, H]
  std::vector<double> quantiles;  // [C, H, Q], rising along Q; empty without levels
};

// What really happened, z units.
struct ForecastTruth {
  std::vector<double> values;     // [C, H]
  std::vector<uint8_t> observed;  // [C, H]
};

struct MetricsShape {
  int64_t channels = 0, horizon = 0;
  std::vector<double> levels = {};       // rising, in (0, 1)
  std::vector<ChannelScale> scale = {};  // [C] of the target channels: to original units
  std::vector<double> mase_scale = {};   // [C] original units; 0 = no value; empty: no MASE
};

// Means over some channels and steps. Absent where nothing was counted.
struct MetricValues {
  double count = 0.0;                                                  // targets
  double mse = 0.0, mae = 0.0, rmse = 0.0;                             // z units
  double mse_original = 0.0, mae_original = 0.0, rmse_original = 0.0;  // averaged over channels of different units
  double smape = 0.0;
  std::optional<double> mase;          // mean over channels that have a scale
  int64_t mase_channels_left_out = 0;  // zero scale
  std::optional<double> crps, wql;     // with levels; crps in z units, wql in original units
  std::optional<double> crps_original;
  struct Interval {
    double low = 0.0, high = 0.0;  // levels
    double coverage = 0.0;         // fraction of targets inside; nominal: high - low
    double width = 0.0;            // original units
    double width_z = 0.0;
  };
  std::vector<Interval> intervals;  // symmetric pairs of levels, the widest first
};

class ForecastMetrics {
 public:
  explicit ForecastMetrics(MetricsShape shape);

  void add(const ForecastValues& forecast, const ForecastTruth& truth);
  // Sums over all ranks, everywhere. Collective, once.
  void reduce(Communicator& world);

  MetricValues total() const { return over(0, shape_.channels, 0, shape_.horizon); }
  MetricValues channel(int64_t c) const { return over(c, c + 1, 0, shape_.horizon); }
  MetricValues step(int64_t h) const { return over(0, shape_.channels, h, h + 1); }
  const MetricsShape& shape() const { return shape_; }
  int64_t windows() const { return static_cast<int64_t>(windows_); }

 private:
  struct Pair {
    size_t low, high;
  };
  MetricValues over(int64_t first_channel, int64_t last_channel, int64_t first_step, int64_t last_step) const;
  double& sum(size_t what, int64_t cell) { return sums_[what * cells() + static_cast<size_t>(cell)]; }
  double sum(size_t what, int64_t cell) const { return sums_[what * cells() + static_cast<size_t>(cell)]; }
  size_t cells() const { return static_cast<size_t>(shape_.channels * shape_.horizon); }
  void add_quantiles(std::span<const double> quantiles, double truth, int64_t cell);

  MetricsShape shape_;
  std::vector<Pair> pairs_;     // symmetric levels
  std::vector<size_t> scored_;  // levels that CRPS and WQL are means over
  std::vector<double> sums_;    // [kinds, C, H]
  double windows_ = 0.0;
};

// mean |y_t - y_(t-m)| over the training rows t >= m of all series, original units, per target channel; only pairs of
// observed values count. 0 where there is no pair or no change.
std::vector<double> mase_scales(SeriesFiles& files, std::span<const int64_t> targets, int64_t season);

// Rows of a day, week or year, by the frequency of the series: 24 for 1h, 96 for 15min, 7 for 1d, 52 for 7d, 12 for 1M;
// 1 where there is none.
int64_t usual_season(const Frequency& frequency);

}  // namespace farsight
