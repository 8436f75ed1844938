// SPDX-License-Identifier: Apache-2.0
#include "data/series_split.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "data/date_time.h"
#include "data/file.h"
#include "data/split_rule.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr std::array<const char*, 3> kNames = {"train", "valid", "test"};
constexpr std::string_view kDates = "dates:", kRows = "rows:";
constexpr int64_t kHour = 3'600'000'000'000;
constexpr std::array<int64_t, 3> kEttDays = {360, 120, 120};  // months of 30 days

[[noreturn]] void refuse(const std::string& rule, const std::string& why) {
  fail(ErrorKind::usage,
       "--split={}: {}; write fractions (0.7/0.1/0.2), ett-hour, ett-minute, dates:2020-01-01/2020-07-01 (begin of "
       "valid "
       "and of test), or rows:8640/2880/2880",
       rule, why);
}

std::vector<std::string> cut(std::string_view text, char at) {
  std::vector<std::string> parts;
  while (true) {
    const size_t end = std::min(text.find(at), text.size());
    parts.emplace_back(text.substr(0, end));
    if (end == text.size()) return parts;
    text.remove_prefix(end + 1);
  }
}

void add_range(SeriesTable& table, const char* name, int64_t series, int64_t begin, int64_t end) {
  if (begin < end) table.splits[name].push_back({.series = series, .begin = begin, .end = end});
}

[[noreturn]] void fail_short(const std::string& rule, const Series& series, int64_t needed) {
  fail(ErrorKind::data, "--split={}: series '{}' has {} rows, and {} are needed", rule, series.id,
       with_commas(series.rows()), with_commas(needed));
}

// The same numbers of rows from the beginning of every series; what follows is not used.
void split_rows(const std::string& rule, const std::vector<int64_t>& rows, SeriesTable& table) {
  int64_t needed = 0;
  for (const int64_t count : rows) needed += count;
  for (size_t s = 0; s < table.series.size(); ++s) {
    if (table.series[s].rows() < needed) fail_short(rule, table.series[s], needed);
    int64_t begin = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      add_range(table, kNames.at(i), static_cast<int64_t>(s), begin, begin + rows[i]);
      begin += rows[i];
    }
  }
}

std::vector<int64_t> parse_rows(const std::string& rule) {
  const std::vector<std::string> parts = cut(std::string_view(rule).substr(kRows.size()), '/');
  if (parts.size() > kNames.size()) refuse(rule, "more than three splits");
  std::vector<int64_t> rows;
  constexpr int64_t kMost = int64_t{1} << 48;
  for (const std::string& part : parts) {
    int64_t count = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), count);
    if (error != std::errc() || end != part.data() + part.size() || count < 0 || count > kMost) {
      refuse(rule, fmt::format("'{}' is no number of rows", part));
    }
    rows.push_back(count);
  }
  return rows;
}

void split_ett(const std::string& rule, int64_t rows_of_hour, SeriesTable& table) {
  const Frequency expected{.step_ns = kHour / rows_of_hour, .months = 0};
  const bool known = table.frequency != Frequency{};
  if (known && table.frequency != expected) {
    fail(ErrorKind::data, "--split={}: this is for rows every {}, and these are every {}; use rows:TRAIN/VALID/TEST",
         rule, to_string(expected), to_string(table.frequency));
  }
  std::vector<int64_t> rows(kEttDays.begin(), kEttDays.end());
  for (int64_t& count : rows) count *= 24 * rows_of_hour;
  split_rows(rule, rows, table);
}

std::vector<int64_t> parse_dates(const std::string& rule) {
  const std::vector<std::string> parts = cut(std::string_view(rule).substr(kDates.size()), '/');
  if (parts.size() != 2 && parts.size() != 3) refuse(rule, "two or three dates are needed");
  std::vector<int64_t> dates;
  dates.reserve(parts.size());
  for (const std::string& part : parts) {
    const std::optional<DateReading> date = read_date(DateForm::iso, part);
    if (!date) refuse(rule, fmt::format("'{}' is no date like 2020-01-31 or 2020-01-31T12:00", part));
    if (!dates.empty() && date->ns <= dates.back()) refuse(rule, "each date has to be after the one before");
    dates.push_back(date->ns);
  }
  return dates;
}

// Series may begin and end at different times: a split need not have rows of each.
void split_dates(const std::vector<int64_t>& dates, SeriesTable& table) {
  for (size_t s = 0; s < table.series.size(); ++s) {
    const std::vector<int64_t>& time = table.series[s].time;
    const auto row = [&](size_t i) {
      return i < dates.size() ? std::lower_bound(time.begin(), time.end(), dates[i]) - time.begin()
                              : static_cast<ptrdiff_t>(time.size());
    };
    int64_t begin = 0;
    for (size_t i = 0; i < kNames.size(); ++i) {
      add_range(table, kNames.at(i), static_cast<int64_t>(s), begin, row(i));
      begin = row(i);
    }
  }
}

// With as many, no share is rounded down to nothing.
int64_t fewest_rows(const std::array<uint64_t, 3>& billionths) {
  constexpr uint64_t kOne = 1'000'000'000;
  uint64_t fewest = 1;
  for (const uint64_t share : billionths) {
    if (share > 0) fewest = std::max(fewest, (kOne + share - 1) / share);
  }
  return static_cast<int64_t>(fewest);
}

void split_fractions(const std::string& rule, const SplitFractions& fractions, SeriesTable& table) {
  const std::array<uint64_t, 3>& billionths = fractions.billionths();
  // What rounding leaves over is for valid, or without it for the last.
  const size_t rest = billionths[1] > 0 ? 1 : billionths[2] > 0 ? 2 : 0;
  for (size_t s = 0; s < table.series.size(); ++s) {
    const int64_t n = table.series[s].rows();
    std::array<int64_t, 3> rows = fractions.shares(n);
    rows.at(rest) += n - rows[0] - rows[1] - rows[2];
    int64_t begin = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (billionths.at(i) > 0 && rows.at(i) == 0) fail_short(rule, table.series[s], fewest_rows(billionths));
      add_range(table, kNames.at(i), static_cast<int64_t>(s), begin, begin + rows.at(i));
      begin += rows.at(i);
    }
  }
}

// Every split that the rule names has to have rows.
void check_splits(const std::string& rule, const std::vector<const char*>& names, const SeriesTable& table) {
  for (const char* name : names) {
    if (table.splits.contains(name)) continue;
    int64_t rows = 0;
    for (const Series& series : table.series) rows = std::max(rows, series.rows());
    const Series& first = table.series.front();
    fail(ErrorKind::data, "--split={}: split '{}' has no row; the longest series has {}, the first one from {} to {}",
         rule, name, with_commas(rows), iso_time(first.time.front()), iso_time(first.time.back()));
  }
}

}  // namespace

void split_series(const std::string& rule, SeriesTable& table) {
  table.splits.clear();
  for (const Series& series : table.series) {
    if (series.rows() == 0) fail(ErrorKind::data, "series '{}' has no row", series.id);
  }
  if (table.series.empty()) fail(ErrorKind::data, "there is no series to split");
  std::vector<const char*> named(kNames.begin(), kNames.end());
  if (rule == "ett-hour" || rule == "ett-minute") {
    split_ett(rule, rule == "ett-hour" ? 1 : 4, table);
  } else if (rule.starts_with(kDates)) {
    split_dates(parse_dates(rule), table);
  } else if (rule.starts_with(kRows)) {
    const std::vector<int64_t> rows = parse_rows(rule);
    named.clear();
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i] > 0) named.push_back(kNames.at(i));
    }
    if (named.empty()) refuse(rule, "there is no row in it");
    split_rows(rule, rows, table);
  } else if (!rule.empty() && ((rule[0] >= '0' && rule[0] <= '9') || rule[0] == '.')) {
    split_fractions(rule, SplitFractions::parse(rule), table);
    named.clear();
  } else {
    refuse(rule, "no such rule");
  }
  check_splits(rule, named, table);
}

}  // namespace farsight
