// SPDX-License-Identifier: Apache-2.0
// The rows around one window in double, scaled as the windows are: what baselines see and what every forecast is
// compared with.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/series_windows.h"
#include "trainer/forecast/forecast_metrics.h"

namespace farsight {

class History {
 public:
  // Keeps up to max(lookback, reach) rows before the first target.
  History(SeriesWindows& windows, int64_t reach);

  void load(int64_t sample);

  // Rows before the first target, oldest first, of target channel c (the c-th of WindowOptions::targets). What was not
  // observed is the last observed value before it, or 0 (the mean) where there is none.
  std::span<const double> past(int64_t c) const;
  int64_t length() const { return length_; }  // rows in past(): less than reach at the beginning of a series
  const ForecastTruth& truth() const { return truth_; }
  const SeriesWindows& windows() const { return windows_; }

 private:
  SeriesWindows& windows_;
  int64_t reach_;
  int64_t length_ = 0;
  std::vector<double> past_;  // [C, reach]
  ForecastTruth truth_;
};

}  // namespace farsight
