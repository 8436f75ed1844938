// SPDX-License-Identifier: Apache-2.0
// Tables of measurements as CSV to time series: dates, roles, gaps, missing values. Used by `farsight data csv` (a data
// set) and by `farsight forecast` (the recent past of one).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/series_table.h"

namespace farsight {

enum class MissingPolicy : uint8_t {
  error,         // refuse, listing cells and gaps
  forward_fill,  // the last observed value of the channel; what precedes the first one is refused
  mask           // NaN, and mask 0
};
enum class DuplicatePolicy : uint8_t { error, first, last, mean };

// A number that stands for "not measured" in one channel, or in all where channel is empty.
struct Sentinel {
  double value = 0.0;
  std::string channel;
};

struct SeriesCsvOptions {
  std::vector<std::string> inputs;   // several files are read as one table, one after the other, with equal headers
  std::string time;                  // name of the column of dates; "" = the only one of date, time, timestamp, ds,
                                     // datetime (any case), else the first column if its first cell is a date
  std::string series;                // column that tells several series apart; "" = one series
  std::vector<std::string> targets;  // "" = every channel that no other option names
  std::vector<std::string> known_future;  // channels known over the horizon
  std::vector<std::string> past;          // channels known up to the forecast; with `targets`: what is not named
  std::vector<std::string> statics;       // columns with one number per series
  std::vector<std::string> drop;          // columns that are left out
  std::vector<std::string> units;         // "channel=unit"
  std::string date_format;                // date_time.h says what it may hold; "" = found out
  std::string timezone;                   // IANA name of the zone of dates without offset; "" = UTC
  std::string frequency = "auto";         // "15min", "1h", "1d", "1M" ...
  char delimiter = '\0';                  // found out among , ; and tab
  char decimal = '.';                     // or ','
  MissingPolicy missing = MissingPolicy::error;
  DuplicatePolicy duplicates = DuplicatePolicy::error;
  std::vector<Sentinel> sentinels;
  bool sort = false;  // rows that are not in the order of time
  // forecast: the last rows may have empty targets and past channels, known_future given: they are kept, as NaN with
  // mask 0, and counted.
  bool open_end = false;
};

struct SeriesCsv {
  SeriesTable table;  // without splits
  std::vector<std::string> warnings;
  int64_t open_rows = 0;            // at the end of every series (open_end)
  int64_t filled = 0;               // cells that forward fill has filled, or the mask covers
  int64_t inserted_rows = 0;        // time stamps that were missing
  std::vector<std::string> sha256;  // of the inputs
};

// Throws Error{usage} for options that contradict each other, Error{data} with everything that is wrong in the input
// ("load.csv:733:5: ..."), every kind counted and the first five listed; Error{io}. Memory: 4 bytes a cell (5 with a
// mask) plus 16 a row.
SeriesCsv read_series_csv(const SeriesCsvOptions& options);

}  // namespace farsight
