// SPDX-License-Identifier: Apache-2.0
// What is suspicious in the values of time series, though nothing is wrong with their form.
#pragma once

#include <string>
#include <vector>

#include "data/series_table.h"

namespace farsight {

// Channels that are constant, and values that may stand for "not measured" (-9999, 999.9 ...): beyond all others, and
// there more than once or far away from them.
std::vector<std::string> value_warnings(const SeriesTable& table);

// Channels that are constant in the split "train" but not in the whole table: nothing can be learned from them, and
// normalising divides by 1 instead of their standard deviation.
std::vector<std::string> training_warnings(const SeriesTable& table);

}  // namespace farsight
