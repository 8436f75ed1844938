// SPDX-License-Identifier: Apache-2.0
#include "data/series_steps.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "data/date_time.h"
#include "data/file.h"
#include "data/series_order.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kDay = 86'400'000'000'000, kHour = kDay / 24;
constexpr int64_t kShortestMonth = 28 * kDay;
constexpr int64_t kPercent = 99;
// More rows than this, missing in one gap or in all, come from a wrong date or --freq.
constexpr int64_t kGapRowsPerRow = 10, kGapRows = 10'000;

struct CommonStep {
  Frequency frequency;
  int64_t count = 0, total = 0;
};

// Calls take(rows, i) for each row but the first of every series.
template <typename Take>
void for_each_step(const SeriesRowTable& table, Take take) {
  for (const SeriesRows& rows : table.series) {
    for (size_t i = 1; i < rows.time.size(); ++i) take(rows, i);
  }
}

// The step that is there most often, the shortest of equals.
CommonStep most_frequent(const std::map<int64_t, int64_t>& counts, bool months) {
  CommonStep common;
  for (const auto& [step, count] : counts) {
    common.total += count;
    if (count <= common.count) continue;
    common.count = count;
    common.frequency = months ? Frequency{.step_ns = 0, .months = step} : Frequency{.step_ns = step, .months = 0};
  }
  return common;
}

// Steps in whole months, if every row is on the calendar. Asked first: three rows can be 31 days apart twice.
std::optional<CommonStep> calendar_step(const SeriesRowTable& table) {
  const Frequency month{.step_ns = 0, .months = 1};
  std::map<int64_t, int64_t> counts;
  for (const SeriesRows& rows : table.series) {
    const int day = anchor_day(rows.time);
    for (size_t i = 1; i < rows.time.size(); ++i) {
      if (rows.time[i] - rows.time[i - 1] < kShortestMonth) return std::nullopt;
      const std::optional<int64_t> months = steps_between(month, rows.time[i - 1], rows.time[i], day);
      if (!months) return std::nullopt;
      ++counts[*months];
    }
  }
  if (counts.empty()) return std::nullopt;
  return most_frequent(counts, /*months=*/true);
}

CommonStep common_step(const SeriesRowTable& table) {
  if (const auto calendar = calendar_step(table)) return *calendar;
  std::map<int64_t, int64_t> counts;
  for_each_step(table, [&](const SeriesRows& rows, size_t i) { ++counts[rows.time[i] - rows.time[i - 1]]; });
  return most_frequent(counts, /*months=*/false);
}

std::string step_text(const SeriesRows& rows, size_t i) {
  return to_string(Frequency{.step_ns = rows.time[i] - rows.time[i - 1], .months = 0});
}

void add_other_steps(const SeriesRowTable& table, const CommonStep& common, Problems& problems) {
  const std::string step = to_string(common.frequency);
  problems.add(
      "frequency",
      fmt::format("{}: the frequency is not constant: the most frequent step is {}, in {:.1f} % of {} steps, and "
                  "99 % are needed; pass --freq={} to take the others for missing rows, or --freq=irregular",
                  table.files[0], step, 100.0 * static_cast<double>(common.count) / static_cast<double>(common.total),
                  with_commas(common.total), step));
  for (const SeriesRows& rows : table.series) {
    const int day = anchor_day(rows.time);
    for (size_t i = 1; i < rows.time.size(); ++i) {
      if (steps_between(common.frequency, rows.time[i - 1], rows.time[i], day) == 1) continue;
      problems.add("other steps", fmt::format("{}: {} is {} after {}{}", table.at(rows.place[i]),
                                              iso_time(rows.time[i]), step_text(rows, i),
                                              table.line(rows.place[i - 1], rows.place[i]), table.of_series(rows)));
    }
  }
}

class GapFiller {
 public:
  GapFiller(const SeriesCsvOptions& options, const Frequency& frequency, SeriesRowTable& table, Problems& problems)
      : options_(options), frequency_(frequency), table_(table), problems_(problems) {}

  int64_t run() {
    for (SeriesRows& rows : table_.series) {
      day_ = anchor_day(rows.time);
      const int64_t missing = count_missing(rows);
      if (missing > 0 && options_.missing != MissingPolicy::error && !refused_) insert(missing, rows);
      rows_ += missing;
    }
    if (options_.missing == MissingPolicy::error && gaps_ > 0) {
      problems_.add("counts", fmt::format("{} gaps, {} missing rows in all", with_commas(gaps_), with_commas(rows_)));
    }
    return rows_;
  }

 private:
  int64_t count_missing(const SeriesRows& rows) {
    int64_t missing = 0;
    for (size_t i = 1; i < rows.time.size(); ++i) {
      const std::optional<int64_t> steps = steps_between(frequency_, rows.time[i - 1], rows.time[i], day_);
      if (steps == 1) continue;
      if (!steps) {
        add_between_steps(rows, i);
        continue;
      }
      ++gaps_;
      const int64_t most = kGapRows + kGapRowsPerRow * rows.rows();
      const bool absurd = *steps > most || (missing <= most && missing + *steps > most);
      missing += *steps - 1;
      if (absurd || options_.missing == MissingPolicy::error) add_gap(rows, i, *steps - 1, absurd);
    }
    return missing;
  }

  void add_between_steps(const SeriesRows& rows, size_t i) {
    refused_ = true;
    problems_.add(
        "times between two steps",
        fmt::format("{}: {} is {} after {}{}, no whole number of steps of {}; correct it, or pass another --freq "
                    "(irregular takes rows as they are)",
                    table_.at(rows.place[i]), iso_time(rows.time[i]), step_text(rows, i),
                    table_.line(rows.place[i - 1], rows.place[i]), table_.of_series(rows), to_string(frequency_)));
  }

  void add_gap(const SeriesRows& rows, size_t i, int64_t missing, bool absurd) {
    refused_ = true;
    const bool change =
        options_.timezone.empty() && rows.time[i] - rows.time[i - 1] <= 2 * kHour && maybe_clock_change(rows.time[i]);
    problems_.add("gaps",
                  fmt::format("{}: {} rows are missing{} between {} in {} and {}; {}{}", table_.at(rows.place[i]),
                              with_commas(missing), table_.of_series(rows), iso_time(rows.time[i - 1]),
                              table_.line(rows.place[i - 1], rows.place[i]), iso_time(rows.time[i]),
                              absurd ? "is one of the two dates wrong, or --freq?" : "use --missing=mask or ffill",
                              change ? ", or --timezone if clocks were put forward then" : ""));
  }

  void insert(int64_t missing, SeriesRows& rows) const {
    const auto channels = static_cast<size_t>(table_.channels());
    const size_t total = rows.time.size() + static_cast<size_t>(missing);
    SeriesRows filled;
    filled.time.reserve(total);
    filled.place.reserve(total);
    filled.values.reserve(total * channels);
    for (size_t i = 0; i < rows.time.size(); ++i) {
      while (i > 0 && advance(frequency_, filled.time.back(), 1, day_) < rows.time[i]) {
        filled.time.push_back(advance(frequency_, filled.time.back(), 1, day_));
        filled.place.push_back(rows.place[i - 1]);
        filled.values.insert(filled.values.end(), channels, std::numeric_limits<float>::quiet_NaN());
      }
      filled.time.push_back(rows.time[i]);
      filled.place.push_back(rows.place[i]);
      const auto from = rows.values.begin() + static_cast<ptrdiff_t>(i * channels);
      filled.values.insert(filled.values.end(), from, from + static_cast<ptrdiff_t>(channels));
    }
    rows.time = std::move(filled.time);
    rows.place = std::move(filled.place);
    rows.values = std::move(filled.values);
  }

  const SeriesCsvOptions& options_;
  const Frequency& frequency_;
  SeriesRowTable& table_;
  Problems& problems_;
  int day_ = 1;
  int64_t gaps_ = 0, rows_ = 0;
  bool refused_ = false;
};

}  // namespace

Frequency find_frequency(const SeriesCsvOptions& options, const SeriesRowTable& table, Problems& problems) {
  if (options.frequency != "auto") return parse_frequency(options.frequency);
  const CommonStep common = common_step(table);
  if (common.total == 0) {
    problems.add("frequency", fmt::format("{}: one row tells no frequency; pass --freq", table.files[0]));
    return {};
  }
  if (common.count * 100 >= common.total * kPercent) return common.frequency;
  add_other_steps(table, common, problems);
  return {};
}

int64_t fill_gaps(const SeriesCsvOptions& options, const Frequency& frequency, SeriesRowTable& table,
                  Problems& problems) {
  if (frequency == Frequency{}) return 0;
  return GapFiller(options, frequency, table, problems).run();
}

}  // namespace farsight
