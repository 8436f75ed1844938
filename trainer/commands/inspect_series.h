// SPDX-License-Identifier: Apache-2.0
// `farsight data inspect` of time series: what a file holds.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>

#include "data/series.h"

namespace farsight {

// Rows with the first and the last time among them.
struct RowSpan {
  int64_t rows = 0;
  int64_t first_ns = INT64_MAX, last_ns = INT64_MIN;  // as they are: no time is known
  bool has_times() const { return first_ns <= last_ns; }
};

// A descriptor, and what only the arrays say.
struct SeriesFacts {
  SeriesDescriptor file;
  RowSpan all;
  std::map<std::string, RowSpan> splits;
  int64_t cells = 0, masked = 0;
  std::string unread;  // why times and masks were not read; "": they were
};

// Reads times and masks, unless only libhdf5 could and no checksum file vouches for the file. Error{data}, Error{io}.
SeriesFacts read_series_facts(const SeriesDescriptor& file);

void print_series(const SeriesFacts& facts, std::ostream& out);

}  // namespace farsight
