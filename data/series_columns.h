// SPDX-License-Identifier: Apache-2.0
// What the columns of a table of measurements are: time, series, statics, channels with roles and units.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "data/csv_reader.h"
#include "data/series_csv.h"

namespace farsight {

struct SeriesColumns {
  std::vector<std::string> names;  // of all columns
  size_t time = 0;
  std::optional<size_t> series;
  std::vector<size_t> statics, channels;  // in the order of the file
  std::vector<Channel> roles;             // of `channels`
  std::vector<std::string> warnings;
};

// Names in a header, as valid UTF-8: bytes that are not are replaced by U+FFFD, with a warning. A column without a name
// is called "column 3". Error{data} for an empty file and for names that are there twice.
std::vector<std::string> read_header(CsvReader& reader, std::vector<std::string>& warnings);

// `first`: the first record after the header, where there is one; it tells whether the first column holds dates.
// Error{usage} for a name that several options use and for a unit that is no "channel=unit"; Error{data} for names that
// the header does not have, for columns without a name that no option uses, no time, no target.
SeriesColumns assign_columns(const SeriesCsvOptions& options, const CsvReader& first, bool has_first,
                             std::vector<std::string> names);

}  // namespace farsight
