// SPDX-License-Identifier: Apache-2.0
// Limits of what a file of time series may claim, checked before any allocation and again by whoever receives a
// descriptor.
#pragma once

#include "data/series.h"

namespace farsight {

inline constexpr int64_t kMaxChannels = 65'536;
inline constexpr int64_t kMaxSeries = kMaxChannels;

// Throws Error{data} unless every array lies inside the file, shapes agree, names differ, splits lie inside their
// series in the order train, valid, test without common rows, and statistics are finite. The message names the dataset.
void check_series(const SeriesDescriptor& series);

}  // namespace farsight
