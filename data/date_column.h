// SPDX-License-Identifier: Apache-2.0
// The column of dates of a table: one form for all of it, found out or stated, and one zone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/date_time.h"
#include "data/problems.h"
#include "data/time_zone.h"

namespace farsight {

class DateColumn {
 public:
  // `format`, `timezone`: SeriesCsvOptions. Error{usage}.
  DateColumn(const std::string& format, const std::string& timezone);

  // ns since 1970 UTC. Nothing for a cell that cannot be taken: finish() reports it with its place.
  std::optional<int64_t> read(std::string_view cell, const std::string& file, int64_t line, size_t column);

  // Adds what was wrong with the column to `problems`. Where no cell was in a form that is found out, the forms it
  // could be in, with what speaks against each: none of them is taken without --date-format.
  void finish(Problems& problems);

 private:
  struct Candidate {
    DateFormat format;
    int64_t fits = 0;
    std::string misfit;  // the first cell that does not fit
  };

  std::optional<DateReading> read_form(std::string_view cell);
  void try_compact(std::string_view cell);
  std::optional<int64_t> to_utc(const DateReading& date, std::string_view cell,
                                const std::function<std::string()>& place);
  void refuse(std::string_view cell, const std::string& place);
  void try_candidates(std::string_view cell, const std::string& place);
  std::string candidates_text() const;

  std::optional<DateFormat> format_;
  TimeZone zone_;
  std::optional<DateForm> form_;
  std::optional<DateFormat> compact_;  // digits that could also be year, month, day, hour: still possible
  Problems problems_;
  int64_t taken_ = 0, refused_ = 0;
  std::string first_place_, first_cell_;
  std::string last_file_;  // where the last date stood that could be taken
  int64_t last_line_ = 0;
  std::vector<Candidate> candidates_;
  std::vector<std::pair<int64_t, std::string>> twice_;  // wall times that a clock showed twice, and where they stand
};

// Whether a cell is in a form that can be a date only: not a bare number.
bool is_plain_date(std::string_view cell);

}  // namespace farsight
