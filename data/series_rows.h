// SPDX-License-Identifier: Apache-2.0
// The rows of measurements as they stand in the files, before anything is sorted, filled or checked for gaps. This and
// what follows it (series_order.h, series_steps.h, series_missing.h) are the stages of read_series_csv.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/problems.h"
#include "data/series_columns.h"
#include "data/series_csv.h"

namespace farsight {

struct RowPlace {
  uint32_t file = 0;
  uint32_t line = 0;
};

struct SeriesRows {
  std::string id;
  std::vector<int64_t> time;
  std::vector<RowPlace> place;  // of each row
  std::vector<float> values;    // [T, C], NaN where there is no number
  std::vector<float> statics;   // [K]
  std::vector<RowPlace> statics_place;
  int64_t rows() const { return static_cast<int64_t>(time.size()); }
};

struct SeriesRowTable {
  std::vector<std::string> files, sha256, warnings;
  SeriesColumns columns;
  std::vector<SeriesRows> series;
  bool complete = true;  // no row was left out because of a problem

  int64_t channels() const { return static_cast<int64_t>(columns.channels.size()); }
  // "load.csv:12:1": the date of a row, or another cell of it.
  std::string at(RowPlace place, size_t column) const;
  std::string at(RowPlace place) const { return at(place, columns.time); }
  // "line 12", with the file where that is another one than that of `place`.
  std::string line(RowPlace other, RowPlace place) const;
  // " of series 'B'" where there are several.
  std::string of_series(const SeriesRows& rows) const;
};

// Reads all inputs. What is wrong with cells and rows is added to `problems`; what ends the reading (quotes, header,
// roles) is thrown as read_series_csv says.
SeriesRowTable read_series_rows(const SeriesCsvOptions& options, Problems& problems);

}  // namespace farsight
