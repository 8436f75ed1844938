// SPDX-License-Identifier: Apache-2.0
#include "data/series_missing.h"

#include <cmath>
#include <vector>

#include "data/date_time.h"
#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

bool is_open(const SeriesRowTable& table, const float* row) {
  for (size_t c = 0; c < table.columns.roles.size(); ++c) {
    if (table.columns.roles[c].role != ChannelRole::known_future && !std::isnan(row[c])) return false;
  }
  return true;
}

int64_t open_rows_of(const SeriesRowTable& table, const SeriesRows& rows) {
  const int64_t channels = table.channels();
  int64_t open = 0;
  while (open < rows.rows() && is_open(table, rows.values.data() + (rows.rows() - open - 1) * channels)) ++open;
  return open;
}

class MissingCellsPolicy {
 public:
  MissingCellsPolicy(const SeriesCsvOptions& options, SeriesRowTable& table, Problems& problems)
      : options_(options), table_(table), problems_(problems) {}

  int64_t run(int64_t open_rows) {
    find_empty_channels();
    for (SeriesRows& rows : table_.series) {
      for (int64_t c = 0; c < table_.channels(); ++c) {
        const Channel& channel = table_.columns.roles[static_cast<size_t>(c)];
        const bool known = channel.role == ChannelRole::known_future;
        treat(known ? rows.rows() : rows.rows() - open_rows, c, rows);
      }
    }
    return treated_;
  }

 private:
  // One channel of one series: its first `count` rows.
  void treat(int64_t count, int64_t c, SeriesRows& rows) {
    if (empty_[static_cast<size_t>(c)]) return;
    int64_t leading = 0;
    float last = 0.0F;
    for (int64_t t = 0; t < count; ++t) {
      float& value = rows.values[static_cast<size_t>(t * table_.channels() + c)];
      if (!std::isnan(value)) {
        last = value;
        continue;
      }
      if (options_.missing == MissingPolicy::error) add_missing(rows, t, c);
      if (leading == t) {
        ++leading;  // nothing to fill it with
      } else if (options_.missing == MissingPolicy::forward_fill) {
        value = last;
      }
      ++treated_;
    }
    if (leading > 0 && options_.missing == MissingPolicy::forward_fill) add_leading(rows, leading, c);
  }

  void find_empty_channels() {
    empty_.assign(static_cast<size_t>(table_.channels()), true);
    for (const SeriesRows& rows : table_.series) {
      for (size_t i = 0; i < rows.values.size(); ++i) {
        if (!std::isnan(rows.values[i])) empty_[i % empty_.size()] = false;
      }
    }
    for (size_t c = 0; c < empty_.size(); ++c) {
      if (!empty_[c]) continue;
      const std::string& name = table_.columns.roles[c].name;
      problems_.add("channels without a number",
                    fmt::format("{}:1:{}: no number in channel {}; leave it out with --drop='{}'", table_.files[0],
                                table_.columns.channels[c] + 1, name, name));
    }
  }

  std::string cell(const SeriesRows& rows, int64_t t, int64_t c) const {
    return table_.at(rows.place[static_cast<size_t>(t)], table_.columns.channels[static_cast<size_t>(c)]);
  }

  void add_missing(const SeriesRows& rows, int64_t t, int64_t c) {
    problems_.add(
        "cells without a number",
        fmt::format("{}: no number in channel {} at {}; use --missing=mask or ffill", cell(rows, t, c),
                    table_.columns.roles[static_cast<size_t>(c)].name, iso_time(rows.time[static_cast<size_t>(t)])));
  }

  void add_leading(const SeriesRows& rows, int64_t leading, int64_t c) {
    problems_.add(
        "channels that begin without a number",
        fmt::format("{}: channel {}{} begins with {} rows without a number, and --missing=ffill has nothing to "
                    "fill them with; use --missing=mask, or leave these rows out",
                    cell(rows, 0, c), table_.columns.roles[static_cast<size_t>(c)].name, table_.of_series(rows),
                    with_commas(leading)));
  }

  const SeriesCsvOptions& options_;
  SeriesRowTable& table_;
  Problems& problems_;
  std::vector<bool> empty_;
  int64_t treated_ = 0;
};

}  // namespace

int64_t count_open_rows(const SeriesRowTable& table, Problems& problems) {
  const int64_t open = open_rows_of(table, table.series.front());
  for (const SeriesRows& rows : table.series) {
    const int64_t own = open_rows_of(table, rows);
    if (own == rows.rows()) {
      problems.add("series without a measured row", fmt::format("{}: no row{} has a target or a past channel",
                                                                table.at(rows.place.front()), table.of_series(rows)));
    } else if (own != open) {
      problems.add(
          "numbers of rows to forecast",
          fmt::format("{}: {} rows at the end of series '{}' have no target, but {} of series '{}'; every series "
                      "needs as many",
                      table.at(rows.place.back()), own, rows.id, open, table.series.front().id));
    }
  }
  return open;
}

int64_t treat_missing(const SeriesCsvOptions& options, int64_t open_rows, SeriesRowTable& table, Problems& problems) {
  return MissingCellsPolicy(options, table, problems).run(open_rows);
}

}  // namespace farsight
