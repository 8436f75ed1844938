// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/baselines.h"

#include <algorithm>
#include <numeric>

#include "kernels/error.h"

namespace farsight {
namespace {

void repeat(double value, int64_t horizon, double* out) { std::fill_n(out, horizon, value); }

void repeat_season(std::span<const double> past, int64_t season, int64_t horizon, double* out) {
  const auto length = static_cast<int64_t>(past.size());
  if (season > length) {
    fail(ErrorKind::data, "seasonal_naive: a season of {} rows, but only {} rows lie before the window", season,
         length);
  }
  for (int64_t h = 0; h < horizon; ++h) out[h] = past[static_cast<size_t>(length - season + h % season)];
}

// Windows whose linear forecasts are computed together: threads start once and the weights are read once for all. A
// window at a time, threads that wait for each other on busy cores took 17 times as long (ETTh1, L 96, H 720: 13.4 s
// on 2 shared cores, 0.8 s with one thread; 2026-11).
class LinearBatch {
 public:
  LinearBatch(const LinearSolution& solution, int64_t channels, ForecastMetrics& metrics)
      : solution_(solution),
        channels_(channels),
        most_(std::clamp<int64_t>(kCells / (channels * solution.horizon), 1, 64)),
        metrics_(metrics) {}

  void add(const History& history) {
    for (int64_t c = 0; c < channels_; ++c) {
      const auto lookback = history.past(c).last(static_cast<size_t>(solution_.lookback));
      lookbacks_.insert(lookbacks_.end(), lookback.begin(), lookback.end());
    }
    truths_.push_back(history.truth());
    if (static_cast<int64_t>(truths_.size()) == most_) flush();
  }

  void flush() {
    const size_t cells = static_cast<size_t>(channels_ * solution_.horizon);
    std::vector<double> points(truths_.size() * cells);
    solution_.forecast(lookbacks_, static_cast<int64_t>(truths_.size()) * channels_, points);
    ForecastValues forecast;
    for (size_t w = 0; w < truths_.size(); ++w) {
      const auto first = points.begin() + static_cast<ptrdiff_t>(w * cells);
      forecast.point.assign(first, first + static_cast<ptrdiff_t>(cells));
      metrics_.add(forecast, truths_[w]);
    }
    lookbacks_.clear();
    truths_.clear();
  }

 private:
  static constexpr int64_t kCells = 1 << 19;  // forecast values held at once
  const LinearSolution& solution_;
  int64_t channels_, most_;
  ForecastMetrics& metrics_;
  std::vector<double> lookbacks_;  // [windows, C, L]
  std::vector<ForecastTruth> truths_;
};

}  // namespace

const char* to_string(Baseline baseline) {
  switch (baseline) {
    case Baseline::repeat_last:
      return "repeat_last";
    case Baseline::seasonal_naive:
      return "seasonal_naive";
    case Baseline::window_mean:
      return "window_mean";
    case Baseline::linear:
      break;
  }
  return "linear";
}

Baseline parse_baseline(std::string_view name) {
  for (const Baseline baseline : kAllBaselines) {
    if (name == to_string(baseline)) return baseline;
  }
  fail(ErrorKind::config, "no baseline '{}'; use repeat_last, seasonal_naive, window_mean, linear", name);
}

void forecast_baseline(Baseline baseline, const History& history, int64_t season, const LinearSolution* solution,
                       std::span<double> out) {
  const WindowOptions& options = history.windows().options();
  const int64_t horizon = options.horizon, lookback = options.lookback;
  const auto channels = static_cast<int64_t>(options.targets.size());
  std::vector<double> lookbacks;  // [C, L]
  for (int64_t c = 0; c < channels; ++c) {
    const std::span<const double> past = history.past(c), window = past.last(static_cast<size_t>(lookback));
    double* f = out.data() + c * horizon;
    switch (baseline) {
      case Baseline::repeat_last:
        repeat(past.back(), horizon, f);
        break;
      case Baseline::seasonal_naive:
        repeat_season(past, season, horizon, f);
        break;
      case Baseline::window_mean:
        repeat(std::accumulate(window.begin(), window.end(), 0.0) / static_cast<double>(lookback), horizon, f);
        break;
      case Baseline::linear:
        lookbacks.insert(lookbacks.end(), window.begin(), window.end());
        break;
    }
  }
  if (baseline == Baseline::linear) solution->forecast(lookbacks, channels, out);
}

int64_t evaluated_windows(int64_t windows, int64_t drop_last) {
  return drop_last > 0 ? windows - windows % drop_last : windows;
}

std::vector<BaselineResult> evaluate_baselines(SeriesWindows& train, SeriesWindows& windows,
                                               const BaselineOptions& options, Communicator& world) {
  const WindowOptions& shape = windows.options();
  MetricsShape metrics{.channels = static_cast<int64_t>(shape.targets.size()), .horizon = shape.horizon};
  for (const int64_t c : shape.targets) metrics.scale.push_back(shape.scale[static_cast<size_t>(c)]);
  metrics.mase_scale = mase_scales(windows.files(), shape.targets, options.season);
  std::vector<BaselineResult> results;
  std::optional<LinearSolution> solution;
  for (const Baseline baseline : options.baselines) {
    results.push_back({baseline, ForecastMetrics(metrics)});
    if (baseline == Baseline::linear) solution = solve_linear(train, world);
  }
  std::optional<LinearBatch> batch;
  for (BaselineResult& result : results) {
    if (result.baseline == Baseline::linear) batch.emplace(*solution, metrics.channels, result.metrics);
  }
  History history(windows, options.season);
  ForecastValues forecast;
  forecast.point.resize(static_cast<size_t>(metrics.channels * metrics.horizon));
  const int64_t count = evaluated_windows(windows.samples(), options.drop_last);
  for (int64_t w = world.rank(); w < count; w += world.size()) {
    history.load(w);
    for (BaselineResult& result : results) {
      if (result.baseline == Baseline::linear) continue;
      forecast_baseline(result.baseline, history, options.season, nullptr, forecast.point);
      result.metrics.add(forecast, history.truth());
    }
    if (batch) batch->add(history);
  }
  if (batch) batch->flush();
  for (BaselineResult& result : results) result.metrics.reduce(world);
  return results;
}

}  // namespace farsight
