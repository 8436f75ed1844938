// SPDX-License-Identifier: Apache-2.0
// What every forecaster is measured against. With x the rows before the first target t0, z units, h = 0 .. H-1:
//   repeat_last     f[h] = x[t0-1]
//   seasonal_naive  f[h] = x[t0 - m + (h mod m)], m the season; rows before the look-back may be used
//   window_mean     f[h] = mean of the L rows of the look-back
//   linear          the closed-form linear forecaster (linear_solution.h)
// Source: forecasting specification, section 3.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/forecast/forecast_metrics.h"
#include "trainer/forecast/history.h"
#include "trainer/forecast/linear_solution.h"

namespace farsight {

enum class Baseline : uint8_t { repeat_last, seasonal_naive, window_mean, linear };
inline constexpr Baseline kAllBaselines[] = {Baseline::repeat_last, Baseline::seasonal_naive, Baseline::window_mean,
                                             Baseline::linear};
const char* to_string(Baseline baseline);
Baseline parse_baseline(std::string_view name);  // Error{config} listing them

// The point forecast of the window that `history` holds, [C, H]. solution: for `linear`. Error{data} when the series is
// shorter than a season before the window.
void forecast_baseline(Baseline baseline, const History& history, int64_t season, const LinearSolution* solution,
                       std::span<double> out);

struct BaselineOptions {
  std::vector<Baseline> baselines;
  int64_t season = 1;
  int64_t drop_last = 0;  // N > 0: leave out the windows after the last full batch of N, to reproduce old tables
};

struct BaselineResult {
  Baseline baseline;
  ForecastMetrics metrics;
};

// Windows that an evaluation with drop_last uses.
int64_t evaluated_windows(int64_t windows, int64_t drop_last);

// Every window of `windows` once, shared out over the ranks; `linear` is solved on `train` (the same files and
// lengths). Collective; the same results on every rank.
std::vector<BaselineResult> evaluate_baselines(SeriesWindows& train, SeriesWindows& windows,
                                               const BaselineOptions& options, Communicator& world);

}  // namespace farsight
