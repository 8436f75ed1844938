// SPDX-License-Identifier: Apache-2.0
// How far apart rows are, and rows that are missing between them.
#pragma once

#include <cstdint>

#include "data/problems.h"
#include "data/series_csv.h"
#include "data/series_rows.h"

namespace farsight {

// The frequency that options.frequency says, or that at least 99 % of all steps have; months, quarters and years by
// calendar where every row lies on one day of the month. Adds to `problems` when there is none, with the most frequent
// step and the first others. Rows are in order.
Frequency find_frequency(const SeriesCsvOptions& options, const SeriesRowTable& table, Problems& problems);

// Inserts rows without a value where times are missing, unless options.missing is error: then each gap is added to
// `problems`, as are times between two steps always. Returns how many rows were inserted.
int64_t fill_gaps(const SeriesCsvOptions& options, const Frequency& frequency, SeriesRowTable& table,
                  Problems& problems);

}  // namespace farsight
