// SPDX-License-Identifier: Apache-2.0
#include "data/series_warnings.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "data/file.h"

namespace farsight {

namespace {

// What loggers and archives write for a missing value. All are far from zero: the test of a cell is one comparison.
constexpr float kSuspects[] = {-99999.0F, -32768.0F, -9999.9F, -9999.0F, -999.99F, -999.9F,
                               -999.0F,   -99.99F,   -99.9F,   -99.0F,   999.0F,   999.9F,
                               999.99F,   9999.0F,   9999.9F,  32767.0F, 65535.0F, 99999.0F};
constexpr size_t kSuspectCount = std::size(kSuspects);
constexpr float kNearestSuspect = 99.0F;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// As it is typed: in quotes where a shell needs them, commas as a list of names needs them.
std::string typed(const std::string& name) {
  std::string text;
  for (const char c : name) text += c == ',' ? std::string("\\,") : std::string(1, c);
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' ||
           c == '-';
  };
  return std::all_of(text.begin(), text.end(), plain) ? text : fmt::format("'{}'", text);
}

struct ChannelValues {
  float low = kInfinity, high = -kInfinity;              // of all
  float other_low = kInfinity, other_high = -kInfinity;  // of those that are no suspects
  int64_t count = 0;
  int64_t suspects[kSuspectCount] = {};

  void add(float value) {
    ++count;
    low = std::min(low, value);
    high = std::max(high, value);
    if (std::fabs(value) >= kNearestSuspect) {
      const auto* const suspect = std::find(std::begin(kSuspects), std::end(kSuspects), value);
      if (suspect != std::end(kSuspects)) {
        ++suspects[suspect - std::begin(kSuspects)];
        return;
      }
    }
    other_low = std::min(other_low, value);
    other_high = std::max(other_high, value);
  }

  bool constant() const { return count > 0 && low == high; }

  bool suspicious(size_t i) const {
    if (suspects[i] == 0 || other_low > other_high) return false;
    const float value = kSuspects[i];
    const float distance = value < 0.0F ? other_low - value : value - other_high;
    return distance > 0.0F && (suspects[i] > 1 || distance > other_high - other_low);
  }
};

void add_rows(const Series& series, int64_t begin, int64_t end, std::vector<ChannelValues>& channels) {
  const size_t width = channels.size();
  for (size_t i = static_cast<size_t>(begin) * width; i < static_cast<size_t>(end) * width; ++i) {
    if (!std::isnan(series.values[i])) channels[i % width].add(series.values[i]);
  }
}

std::vector<ChannelValues> values_of(const SeriesTable& table) {
  std::vector<ChannelValues> channels(table.channels.size());
  for (const Series& series : table.series) add_rows(series, 0, series.rows(), channels);
  return channels;
}

}  // namespace

std::vector<std::string> value_warnings(const SeriesTable& table) {
  std::vector<std::string> warnings;
  const std::vector<ChannelValues> channels = values_of(table);
  for (size_t c = 0; c < channels.size(); ++c) {
    const std::string& name = table.channels[c].name;
    const ChannelValues& values = channels[c];
    if (values.constant()) {
      warnings.push_back(
          fmt::format("channel {0}: constant, {1} in all {2} rows: its standard deviation 0 counts as 1; "
                      "--drop={3} leaves it out",
                      name, values.low, with_commas(values.count), typed(name)));
    }
    for (size_t i = 0; i < kSuspectCount; ++i) {
      if (!values.suspicious(i)) continue;
      warnings.push_back(fmt::format(
          "channel {0}: {1} stands there {2} times, all other values lie between {3} and {4}; "
          "if it means 'not measured', pass --sentinel={1}:{5} with --missing=mask or ffill",
          name, kSuspects[i], with_commas(values.suspects[i]), values.other_low, values.other_high, typed(name)));
    }
  }
  return warnings;
}

std::vector<std::string> training_warnings(const SeriesTable& table) {
  std::vector<ChannelValues> training(table.channels.size());
  const auto train = table.splits.find("train");
  if (train == table.splits.end()) return {};
  for (const SplitRange& range : train->second) {
    add_rows(table.series[static_cast<size_t>(range.series)], range.begin, range.end, training);
  }
  const std::vector<ChannelValues> all = values_of(table);
  std::vector<std::string> warnings;
  for (size_t c = 0; c < training.size(); ++c) {
    const std::string& name = table.channels[c].name;
    if (training[c].count == 0) {
      warnings.push_back(
          fmt::format("channel {}: no number in the split train: its mean counts as 0 and its standard "
                      "deviation as 1",
                      name));
    } else if (training[c].constant() && !all[c].constant()) {
      warnings.push_back(
          fmt::format("channel {}: constant in the split train, {} in all its rows: its standard deviation "
                      "0 counts as 1",
                      name, training[c].low));
    }
  }
  return warnings;
}

}  // namespace farsight
