// SPDX-License-Identifier: Apache-2.0
// Cells without a number, once rows are in order and at equal steps.
#pragma once

#include <cstdint>

#include "data/problems.h"
#include "data/series_csv.h"
#include "data/series_rows.h"

namespace farsight {

// The rows at the end of every series that have neither a target nor a past channel: those to be forecast. Adds to
// `problems` when series differ in it, and for a series that has no other rows.
int64_t count_open_rows(const SeriesRowTable& table, Problems& problems);

// Treats NaN as options.missing says, but in open rows only the channels that are known there. With forward fill NaN
// stays where there is nothing before; that, any NaN under the policy error, and channels without a single number are
// added to `problems`. Returns how many cells were filled, or are to be masked.
int64_t treat_missing(const SeriesCsvOptions& options, int64_t open_rows, SeriesRowTable& table, Problems& problems);

}  // namespace farsight
