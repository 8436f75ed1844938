// SPDX-License-Identifier: Apache-2.0
// Which rows of a time series are for training, validation and test. Always in this order in time.
//   "0.7/0.1/0.2"  of the rows of each series: train floor(0.7 n), test floor(0.2 n), the rest between them is valid
//                  (two fractions: no test; "1": train only). At most 9 decimals, adding up to 1
//   "ett-hour"     12, 4 and 4 months of 30 days in hours: [0, 8640), [8640, 11520), [11520, 14400); the rest is unused
//   "ett-minute"   the same in quarters of an hour: 34560, 46080, 57600
//   "dates:A/B[/C]" train before A, valid before B, test before C (or to the end); ISO dates, UTC
//   "rows:N/N/N"   exactly these numbers of rows
#pragma once

#include <string>

#include "data/series_table.h"

namespace farsight {

// Fills table.splits. Error{usage} for a rule that is not one of these; Error{data} for a series with too few rows for
// the rule, with the rows it has and needs, and for a split without a row.
void split_series(const std::string& rule, SeriesTable& table);

}  // namespace farsight
