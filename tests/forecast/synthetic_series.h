// SPDX-License-Identifier: Apache-2.0
// The synthetic series of the forecasting specification (section 3): three channels of daily and weekly waves, a trend
// and uniform noise, hourly, with the borders of the hourly ETT benchmark. Its numbers are known to 1e-9.
#pragma once

#include <string>

#include "data/series_table.h"

namespace farsight {

inline constexpr int64_t kSyntheticRows = 14400, kSyntheticChannels = 3;

// x[t, c] before it is rounded to f32.
double synthetic_value(int64_t t, int64_t c);
SeriesTable synthetic_table(int64_t rows = kSyntheticRows);
// The table as a file of kind "series". Returns `path`.
std::string write_synthetic(const std::string& path, const SeriesTable& table = synthetic_table());

}  // namespace farsight
