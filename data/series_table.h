// SPDX-License-Identifier: Apache-2.0
// Time series in memory, as read from measurements (series_csv.h) and as written to a file of kind "series"
// (series_format.md): what `farsight data csv` makes and `farsight forecast` takes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/frequency.h"

namespace farsight {

// What a channel is to a forecast. target: forecast. past: known up to the moment of the forecast. known_future: known
// over the horizon too (a calendar, a plan, another forecast).
enum class ChannelRole : uint8_t { target = 0, past = 1, known_future = 2 };
const char* to_string(ChannelRole role);

struct Channel {
  std::string name;
  std::string unit;  // "" = not stated
  ChannelRole role = ChannelRole::target;
  bool operator==(const Channel&) const = default;
};

struct Series {
  std::string id;              // "0" where the file holds one
  std::vector<int64_t> time;   // [T] ns since 1970-01-01 UTC, strictly increasing
  std::vector<float> values;   // [T, C]
  std::vector<uint8_t> mask;   // [T, C], 1 = observed; empty: everything is. Unobserved values are NaN
  std::vector<float> statics;  // [K]
  int64_t rows() const { return static_cast<int64_t>(time.size()); }
};

// Target rows [begin, end) of one series. Look-back may reach before begin, targets never reach end.
struct SplitRange {
  int64_t series = 0;
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const SplitRange&) const = default;
};

struct SeriesTable {
  std::vector<Channel> channels;          // [C]
  std::vector<std::string> static_names;  // [K]
  Frequency frequency;
  std::vector<Series> series;                             // [S], sorted by id as they appeared
  std::map<std::string, std::vector<SplitRange>> splits;  // "train", "valid", "test"
};

}  // namespace farsight
