// SPDX-License-Identifier: Apache-2.0
// Dates as text to nanoseconds since 1970-01-01 UTC (proleptic Gregorian calendar) and back. Nothing here depends on
// the locale or on the zone of the machine. Impossible dates (31 February, 24:00, second 60) are not dates.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace farsight {

// What int64 nanoseconds hold, in whole years: other dates are not read.
inline constexpr int kFirstYear = 1678, kLastYear = 2261;
inline constexpr const char* kYearsOfDates = "1678 to 2261";

struct DateReading {
  int64_t ns = 0;           // UTC where has_offset; else what a clock on the wall shows, counted as if it were in UTC
  bool has_offset = false;  // the text says its distance from UTC
  bool operator==(const DateReading&) const = default;
};

// The forms that no other form can be taken for.
//   iso         2016-07-01, 2016-07 (its first day), 2016-07-01T02:30[:15[.123456789]][Z|+02|+02:00|+0200], or a blank
//   for T year_slash  2016/7/1 [2:30[:15[.5]]] epoch_s     9 or 10 digits (years 1973 to 2286), with a fraction or
//   without epoch_ms    12 or 13 digits (the same years)
enum class DateForm : uint8_t { iso, year_slash, epoch_s, epoch_ms };
inline constexpr DateForm kDateForms[] = {DateForm::iso, DateForm::year_slash, DateForm::epoch_s, DateForm::epoch_ms};

std::optional<DateReading> read_date(DateForm form, std::string_view text);

// A form that a user states.
//   %Y four digits; %m %d %H %M %S one or two, two where another number follows or precedes; %y 69..99 = 1969..1999,
//   00..68 = 2000..2068; %f up to nine decimals; %b Jan .. Dec in any case; %z Z, +02, +0200, +02:00; %I 1 .. 12 with
//   %p AM or PM in any case; %% a percent sign
//   epoch-s, epoch-ms: any whole number, with a fraction or without
class DateFormat {
 public:
  // Error{usage} for anything else, for a part that is there twice, for a form without a year,
  // and for %I without %p.
  static DateFormat parse(const std::string& text);

  std::optional<DateReading> read(std::string_view text) const;
  const std::string& text() const { return text_; }

 private:
  struct Part {
    char directive = '\0';  // '\0': the literal
    char literal = '\0';
    bool fixed = false;  // exactly two digits
  };
  enum class Kind : uint8_t { pattern, epoch_s, epoch_ms };

  std::string text_;
  Kind kind_ = Kind::pattern;
  std::vector<Part> parts_;
};

// "2016-07-01T02:30:00Z"; a fraction of 3, 6 or 9 digits where there is one.
std::string iso_time(int64_t ns);

}  // namespace farsight
