// SPDX-License-Identifier: Apache-2.0
// Rows in the order of time, one for each time.
#pragma once

#include "data/problems.h"
#include "data/series_csv.h"
#include "data/series_rows.h"

namespace farsight {

// Sorts if options.sort says so (rows of one time keep their order), and treats duplicates as options.duplicates says.
// Unsorted rows and duplicates that may not be are added to `problems`; the result is whether there were none.
bool order_rows(const SeriesCsvOptions& options, SeriesRowTable& table, Problems& problems);

// Whether clocks with summer time may have been changed then: early on a Sunday in spring or autumn.
bool maybe_clock_change(int64_t time_ns);

}  // namespace farsight
