// SPDX-License-Identifier: Apache-2.0
#include "data/series_order.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "data/date_time.h"
#include "kernels/error.h"

namespace farsight {

namespace {

// Rows of a series by a list of row numbers.
void reorder(const std::vector<size_t>& order, size_t channels, SeriesRows& rows) {
  SeriesRows sorted;
  sorted.time.reserve(order.size());
  sorted.place.reserve(order.size());
  sorted.values.reserve(order.size() * channels);
  for (const size_t row : order) {
    sorted.time.push_back(rows.time[row]);
    sorted.place.push_back(rows.place[row]);
    const auto from = rows.values.begin() + static_cast<ptrdiff_t>(row * channels);
    sorted.values.insert(sorted.values.end(), from, from + static_cast<ptrdiff_t>(channels));
  }
  rows.time = std::move(sorted.time);
  rows.place = std::move(sorted.place);
  rows.values = std::move(sorted.values);
}

void sort_rows(size_t channels, SeriesRows& rows) {
  if (std::is_sorted(rows.time.begin(), rows.time.end())) return;
  std::vector<size_t> order(rows.time.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rows.time[a] < rows.time[b]; });
  reorder(order, channels, rows);
}

// The mean of what is there, in every channel, becomes the first of the rows.
void average(std::span<float> rows, size_t channels) {
  for (size_t c = 0; c < channels; ++c) {
    double sum = 0.0;
    int64_t count = 0;
    for (size_t at = c; at < rows.size(); at += channels) {
      if (std::isnan(rows[at])) continue;
      sum += rows[at];
      ++count;
    }
    rows[c] =
        count == 0 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(sum / static_cast<double>(count));
  }
}

void merge_duplicates(DuplicatePolicy policy, size_t channels, SeriesRows& rows) {
  std::vector<size_t> kept;
  for (size_t begin = 0, end = 0; begin < rows.time.size(); begin = end) {
    while (end < rows.time.size() && rows.time[end] == rows.time[begin]) ++end;
    kept.push_back(policy == DuplicatePolicy::last ? end - 1 : begin);
    if (policy != DuplicatePolicy::mean || end == begin + 1) continue;
    average(std::span(rows.values).subspan(begin * channels, (end - begin) * channels), channels);
  }
  if (kept.size() < rows.time.size()) reorder(kept, channels, rows);
}

class OrderCheck {
 public:
  OrderCheck(const SeriesCsvOptions& options, const SeriesRowTable& table, Problems& problems)
      : options_(options), table_(table), problems_(problems) {}

  bool check(const SeriesRows& rows) {
    bool good = true;
    for (size_t i = 1; i < rows.time.size(); ++i) {
      if (rows.time[i] > rows.time[i - 1]) {
        good &= !far_apart(rows, i);
        continue;
      }
      if (rows.time[i] == rows.time[i - 1] && options_.duplicates != DuplicatePolicy::error) continue;
      good = false;
      if (rows.time[i] == rows.time[i - 1]) {
        add_duplicate(rows, i);
      } else {
        add_unsorted(rows, i);
      }
    }
    return good;
  }

 private:
  // Steps are int64 ns, 292 years at most.
  bool far_apart(const SeriesRows& rows, size_t i) {
    int64_t step = 0;
    if (!__builtin_sub_overflow(rows.time[i], rows.time[i - 1], &step)) return false;
    problems_.add(
        "dates that are too far apart",
        fmt::format("{}: {} is more than 292 years after {} in {}; is one of them wrong?", table_.at(rows.place[i]),
                    iso_time(rows.time[i]), iso_time(rows.time[i - 1]), table_.line(rows.place[i - 1], rows.place[i])));
    return true;
  }

  void add_duplicate(const SeriesRows& rows, size_t i) {
    const bool change = options_.timezone.empty() && maybe_clock_change(rows.time[i]);
    problems_.add(
        "duplicate times",
        fmt::format("{}: the time {}{} is that of {}; use --duplicates=first, last or mean{}", table_.at(rows.place[i]),
                    iso_time(rows.time[i]), table_.of_series(rows), table_.line(rows.place[i - 1], rows.place[i]),
                    change ? ", or --timezone if clocks were put back then" : advice()));
  }

  // One table of several series looks like duplicates when nobody says so.
  std::string advice() const {
    return options_.series.empty() ? ", or --series=COLUMN if there are several series" : "";
  }

  void add_unsorted(const SeriesRows& rows, size_t i) {
    problems_.add("rows that are not in the order of time",
                  fmt::format("{}: {}{} is before {} in {}; use --sort{}", table_.at(rows.place[i]),
                              iso_time(rows.time[i]), table_.of_series(rows), iso_time(rows.time[i - 1]),
                              table_.line(rows.place[i - 1], rows.place[i]), advice()));
  }

  const SeriesCsvOptions& options_;
  const SeriesRowTable& table_;
  Problems& problems_;
};

}  // namespace

bool maybe_clock_change(int64_t time_ns) {
  namespace chrono = std::chrono;
  const chrono::sys_time<chrono::nanoseconds> time{chrono::nanoseconds(time_ns)};
  const auto days = chrono::floor<chrono::days>(time);
  const auto month = static_cast<unsigned>(chrono::year_month_day(days).month());
  const bool season = month == 3 || month == 4 || (month >= 9 && month <= 11);
  return season && chrono::weekday(days) == chrono::Sunday && time - days <= chrono::hours(4);
}

bool order_rows(const SeriesCsvOptions& options, SeriesRowTable& table, Problems& problems) {
  const auto channels = static_cast<size_t>(table.channels());
  bool good = true;
  for (SeriesRows& rows : table.series) {
    if (options.sort) sort_rows(channels, rows);
    if (!OrderCheck(options, table, problems).check(rows)) {
      good = false;
    } else if (options.duplicates != DuplicatePolicy::error) {
      merge_duplicates(options.duplicates, channels, rows);
    }
  }
  return good;
}

}  // namespace farsight
