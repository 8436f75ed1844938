// SPDX-License-Identifier: Apache-2.0
#include "data/date_time.h"

#include <chrono>
#include <clocale>
#include <random>

#include "data/date_column.h"
#include "data/frequency.h"
#include "data/time_zone.h"
#include "tests/data/scratch.h"

namespace farsight {
namespace {

namespace chrono = std::chrono;
using Random = std::mt19937_64;

constexpr int64_t kSecond = 1'000'000'000, kHour = 3600 * kSecond, kDay = 24 * kHour;

// Days since 1970-01-01 by counting the days of years and months.
int64_t day_number(int year, int month, int day) {
  const auto leap = [](int y) { return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0; };
  int64_t days = 0;
  for (int y = 1970; y < year; ++y) days += leap(y) ? 366 : 365;
  for (int y = year; y < 1970; ++y) days -= leap(y) ? 366 : 365;
  const int months[] = {31, leap(year) ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  for (int m = 1; m < month; ++m) days += months[m - 1];
  return days + day - 1;
}

int64_t at(int year, int month, int day, int hour = 0, int minute = 0, int second = 0) {
  return day_number(year, month, day) * kDay + hour * kHour + (int64_t{60} * minute + second) * kSecond;
}

int64_t ns_of(const std::optional<DateReading>& date) {
  EXPECT_TRUE(date.has_value());
  return date ? date->ns : -1;
}

TEST(DateTime, IsoForms) {
  const int64_t day = at(2016, 7, 1);
  EXPECT_EQ(ns_of(read_date(DateForm::iso, "2016-07-01")), day);
  EXPECT_EQ(ns_of(read_date(DateForm::iso, "2016-07")), day);
  EXPECT_EQ(ns_of(read_date(DateForm::iso, "2016-07-01T02:30")), day + 9000 * kSecond);
  EXPECT_EQ(ns_of(read_date(DateForm::iso, "2016-07-01 02:30:15")), day + 9015 * kSecond);
  EXPECT_EQ(ns_of(read_date(DateForm::iso, "2016-07-01 02:30:15.5")), day + 9015 * kSecond + kSecond / 2);
  EXPECT_EQ(ns_of(read_date(DateForm::iso, "2016-07-01T02:30:15.123456789")), day + 9015 * kSecond + 123'456'789);
  for (const char* offset : {"+02:00", "+0200", "+02", " +02:00"}) {
    const auto date = read_date(DateForm::iso, std::string("2016-07-01T02:30:00") + offset);
    EXPECT_EQ(ns_of(date), day + kHour / 2) << offset;
    EXPECT_TRUE(date->has_offset);
  }
  EXPECT_EQ(ns_of(read_date(DateForm::iso, "2016-07-01T02:30Z")), day + 9000 * kSecond);
  EXPECT_EQ(ns_of(read_date(DateForm::iso, "2016-06-30T22:30-03:30")), day + 2 * kHour);
  EXPECT_FALSE(read_date(DateForm::iso, "2016-07-01T02:30")->has_offset);
  EXPECT_EQ(ns_of(read_date(DateForm::iso, "1969-12-31T23:59:59.999999999")), -1);
}

TEST(DateTime, OtherFormsThatAreFoundOut) {
  EXPECT_EQ(ns_of(read_date(DateForm::year_slash, "1990/1/1 0:00")), at(1990, 1, 1));
  EXPECT_EQ(ns_of(read_date(DateForm::year_slash, "1990/12/31 23:59:58")), at(1990, 12, 31, 23, 59, 58));
  EXPECT_EQ(ns_of(read_date(DateForm::year_slash, "1990/02/03")), at(1990, 2, 3));
  EXPECT_EQ(ns_of(read_date(DateForm::epoch_s, "1467331200")), at(2016, 7, 1));
  EXPECT_EQ(ns_of(read_date(DateForm::epoch_s, "1467331200.25")), at(2016, 7, 1) + kSecond / 4);
  EXPECT_EQ(ns_of(read_date(DateForm::epoch_ms, "1467331200007")), at(2016, 7, 1) + 7'000'000);
  EXPECT_EQ(ns_of(read_date(DateForm::epoch_s, "999999999")), 999'999'999 * kSecond);
}

TEST(DateTime, WhatIsNoDate) {
  for (const char* text : {"",
                           "2016",
                           "2016-13-01",
                           "2016-00-01",
                           "2016-02-30",
                           "2015-02-29",
                           "1900-02-29",
                           "2016-7-1",
                           "2016-07-01T",
                           "2016-07-01T24:00",
                           "2016-07-01T23:60",
                           "2016-07-01T23:59:60",
                           "2016-07-01x",
                           "2016-07-01T02",
                           "2016-07-01T02:30+",
                           "2016-07-01T02:30+2",
                           "2016-07-01T02:30+02:",
                           "31.02.2020",
                           "1677-12-31",
                           "2262-01-01",
                           "2016/2/30",
                           "2016/1/1 1:5",
                           "2016/1/1T1:05",
                           "01/02/2020",
                           "20160701",
                           "12345678",
                           "12345678901",
                           "-1467331200",
                           "1467331200.",
                           "1.5",
                           "2016-07-01 02:30:15.",
                           "2016-07-01 02:30:15.1234567890",
                           "+2016-07-01",
                           "NaN"}) {
    for (const DateForm form : kDateForms) EXPECT_FALSE(read_date(form, text)) << text;
  }
}

TEST(DateTime, StatedForms) {
  const auto read = [](const char* format, const char* text) { return DateFormat::parse(format).read(text); };
  EXPECT_EQ(ns_of(read("%d.%m.%Y %H:%M", "1.2.2020 7:05")), at(2020, 2, 1, 7, 5));
  EXPECT_EQ(ns_of(read("%m/%d/%y", "02/01/69")), at(1969, 2, 1));
  EXPECT_EQ(ns_of(read("%m/%d/%y", "02/01/68")), at(2068, 2, 1));
  EXPECT_EQ(ns_of(read("%Y%m%d%H%M%S", "20200201070503")), at(2020, 2, 1, 7, 5, 3));
  EXPECT_EQ(ns_of(read("%d %b %Y", "01 fEb 2020")), at(2020, 2, 1));
  EXPECT_EQ(ns_of(read("%d/%b/%Y:%H:%M:%S %z", "01/Feb/2020:07:05:03 -0330")), at(2020, 2, 1, 10, 35, 3));
  EXPECT_EQ(ns_of(read("%Y-%m-%d %H:%M:%S.%f", "2020-02-01 00:00:00.000001")), at(2020, 2, 1) + 1000);
  EXPECT_EQ(ns_of(read("100%% %Y", "100% 2020")), at(2020, 1, 1));
  EXPECT_EQ(ns_of(read("epoch-s", "12.5")), 12 * kSecond + kSecond / 2);
  EXPECT_EQ(ns_of(read("epoch-s", "-0.5")), -kSecond / 2);
  EXPECT_EQ(ns_of(read("epoch-ms", "-1")), -1'000'000);
  EXPECT_EQ(ns_of(read("%m/%d/%Y %I:%M %p", "2/1/2020 12:05 AM")), at(2020, 2, 1, 0, 5));
  EXPECT_EQ(ns_of(read("%m/%d/%Y %I:%M %p", "2/1/2020 12:05 pm")), at(2020, 2, 1, 12, 5));
  EXPECT_EQ(ns_of(read("%m/%d/%Y %I:%M %p", "2/1/2020 1:05 PM")), at(2020, 2, 1, 13, 5));
  EXPECT_FALSE(read("%m/%d/%Y %I:%M %p", "2/1/2020 13:05 PM"));
  EXPECT_FALSE(read("%m/%d/%Y %I:%M %p", "2/1/2020 0:05 AM"));
  EXPECT_FALSE(read("%d.%m.%Y", "31.02.2020"));
  EXPECT_FALSE(read("%Y%m%d", "2020111"));  // 1 November or 11 January
  EXPECT_FALSE(read("%d %b %Y", "01 anf 2020"));
  EXPECT_FALSE(read("%Y", "2020 "));
  EXPECT_FALSE(read("epoch-s", "99999999999999999999"));
  EXPECT_FALSE(read("epoch-ms", "9223372036854775807"));
  for (const char* bad : {"%Q", "%", "%Y%", "%Y %y", "%m %b %Y", "%d.%m", "", "epoch", "%Y %I", "%Y %H %p"}) {
    EXPECT_CONTAINS(error_of(ErrorKind::usage, [&] { DateFormat::parse(bad); }), "--date-format=") << bad;
  }
}

TEST(DateTime, RandomDatesAgreeWithTheCalendar) {
  Random random(1);
  const int64_t first = day_number(1900, 1, 1), last = day_number(2200, 12, 31);
  const DateFormat form = DateFormat::parse("%d.%m.%y %H:%M:%S"), compact = DateFormat::parse("%Y%m%d%H%M%S");
  for (int i = 0; i < 20'000; ++i) {
    const int64_t day = first + static_cast<int64_t>(random() % static_cast<uint64_t>(last - first + 1));
    const auto second = static_cast<int64_t>(random() % 86'400),
               fraction = static_cast<int64_t>(random() % 1'000'000'000);
    const chrono::year_month_day date{chrono::sys_days{chrono::days{day}}};
    const int y = int{date.year()};
    const auto m = static_cast<unsigned>(date.month()), d = static_cast<unsigned>(date.day());
    const int64_t h = second / 3600, min = second / 60 % 60, s = second % 60;
    const int64_t ns = day * kDay + second * kSecond;
    EXPECT_EQ(day_number(y, static_cast<int>(m), static_cast<int>(d)), day);
    const std::string text = fmt::format("{}-{:02}-{:02}T{:02}:{:02}:{:02}", y, m, d, h, min, s);
    EXPECT_EQ(iso_time(ns), text + "Z");
    EXPECT_EQ(ns_of(read_date(DateForm::iso, text)), ns);
    EXPECT_EQ(ns_of(read_date(DateForm::iso, fmt::format("{}.{:09}Z", text, fraction))), ns + fraction);
    EXPECT_EQ(ns_of(read_date(DateForm::iso, iso_time(ns + fraction))), ns + fraction);
    EXPECT_EQ(ns_of(read_date(DateForm::year_slash, fmt::format("{}/{}/{} {}:{:02}:{:02}", y, m, d, h, min, s))), ns);
    EXPECT_EQ(ns_of(compact.read(fmt::format("{}{:02}{:02}{:02}{:02}{:02}", y, m, d, h, min, s))), ns);
    if (y >= 1969 && y < 2069) {
      EXPECT_EQ(ns_of(form.read(fmt::format("{}.{}.{:02} {}:{}:{}", d, m, y % 100, h, min, s))), ns);
    }
  }
}

TEST(DateTime, NeitherTheLocaleNorTheZoneOfTheMachineMatters) {
  const char* before = std::getenv("TZ");
  const std::string kept = before == nullptr ? "" : before;
  for (const char* zone : {"Asia/Tokyo", "America/New_York", "UTC"}) {
    setenv("TZ", zone, 1);
    tzset();
    for (const char* locale : {"C", "de_DE.UTF-8", "tr_TR.UTF-8", "C.UTF-8"}) {
      if (std::setlocale(LC_ALL, locale) == nullptr) continue;
      EXPECT_EQ(ns_of(read_date(DateForm::iso, "2016-07-01T02:30:15.5")), at(2016, 7, 1, 2, 30, 15) + kSecond / 2);
      EXPECT_EQ(iso_time(at(2016, 7, 1) + kSecond / 2), "2016-07-01T00:00:00.500Z");
      EXPECT_EQ(TimeZone("Europe/Berlin").to_utc(at(2016, 7, 1)).utc_ns, at(2016, 6, 30, 22));
      EXPECT_EQ(TimeZone("").to_utc(at(2016, 7, 1)).utc_ns, at(2016, 7, 1));
      EXPECT_EQ(ns_of(DateFormat::parse("%d %b %Y").read("01 APR 2020")), at(2020, 4, 1));
    }
  }
  std::setlocale(LC_ALL, "C");
  if (before == nullptr) {
    unsetenv("TZ");
  } else {
    setenv("TZ", kept.c_str(), 1);
  }
  tzset();
}

// Summer time of the European Union since 1996: from the last Sunday of March to that of October, 01:00 UTC.
int64_t last_sunday(int year, int month) {
  int64_t day = day_number(year, month, 31);
  while ((day + 4) % 7 != 0) --day;  // 1970-01-01 was a Thursday
  return day * kDay + kHour;
}

TEST(TimeZones, BerlinFollowsTheRuleOfTheUnion) {
  Random random(2);
  const TimeZone zone("Europe/Berlin");
  for (int i = 0; i < 20'000; ++i) {
    const int year = 1997 + static_cast<int>(random() % 28);
    const int64_t spring = last_sunday(year, 3), autumn = last_sunday(year, 10);
    const int64_t utc = at(year, 1, 2) + static_cast<int64_t>(random() % 31'363'200) * kSecond;
    const bool summer = utc >= spring && utc < autumn;
    const TimeZone::Moment moment = zone.to_utc(utc + (summer ? 2 : 1) * kHour);
    const bool twice = utc >= autumn - kHour && utc < autumn + kHour;
    EXPECT_EQ(moment.outcome, twice ? TimeZone::Outcome::twice : TimeZone::Outcome::unique) << iso_time(utc);
    if (!twice) {
      EXPECT_EQ(moment.utc_ns, utc) << iso_time(utc);
    }
  }
  const TimeZone::Moment gap = zone.to_utc(at(2016, 3, 27, 2, 30));
  EXPECT_EQ(gap.outcome, TimeZone::Outcome::skipped);
  EXPECT_EQ(gap.before_offset_s, 3600);
  EXPECT_EQ(gap.after_offset_s, 7200);
  EXPECT_EQ(TimeZone("Asia/Kolkata").to_utc(at(2016, 1, 1)).utc_ns, at(2015, 12, 31, 18, 30));
  EXPECT_EQ(TimeZone("Etc/GMT-1").to_utc(at(2016, 3, 27, 2, 30)).utc_ns, at(2016, 3, 27, 1, 30));
  EXPECT_CONTAINS(error_of(ErrorKind::usage, [] { TimeZone("Europe/Berlim"); }),
                  "--timezone=Europe/Berlim: no such zone");
}

TEST(Frequencies, NamesAndBack) {
  const std::pair<const char*, Frequency> cases[] = {
      {"15min", {900 * kSecond, 0}},  {"1h", {kHour, 0}}, {"1d", {kDay, 0}}, {"7d", {7 * kDay, 0}},
      {"90min", {5400 * kSecond, 0}}, {"1M", {0, 1}},     {"3M", {0, 3}},    {"12M", {0, 12}},
      {"500ms", {kSecond / 2, 0}},    {"irregular", {}},  {"7ns", {7, 0}}};
  for (const auto& [text, frequency] : cases) {
    EXPECT_EQ(to_string(frequency), text);
    EXPECT_EQ(parse_frequency(text), frequency) << text;
  }
  EXPECT_EQ(parse_frequency("h"), (Frequency{kHour, 0}));
  EXPECT_EQ(parse_frequency("2w"), (Frequency{14 * kDay, 0}));
  EXPECT_EQ(parse_frequency("1y"), (Frequency{0, 12}));
  for (const char* bad : {"", "0h", "-1h", "1m", "1x", "h1", "1.5h", "99999999999999999999h", "9999999999h", "1 h"}) {
    EXPECT_CONTAINS(error_of(ErrorKind::usage, [&] { parse_frequency(bad); }), "a number and a unit") << bad;
  }
}

TEST(Frequencies, MonthsEndOnTheirLastDay) {
  const Frequency month{0, 1};
  const int64_t january = at(2023, 1, 31, 12);
  EXPECT_EQ(advance(month, january, 1, 31), at(2023, 2, 28, 12));
  EXPECT_EQ(advance(month, january, 13, 31), at(2024, 2, 29, 12));
  EXPECT_EQ(advance(month, at(2023, 2, 28, 12), 1, 31), at(2023, 3, 31, 12));
  EXPECT_EQ(advance(month, january, -1, 31), at(2022, 12, 31, 12));
  EXPECT_EQ(advance({0, 12}, at(2024, 2, 29), 1, 29), at(2025, 2, 28));
  EXPECT_EQ(advance({kHour, 0}, january, -36, 1), at(2023, 1, 30));
  EXPECT_EQ(advance(month, at(1969, 12, 1), -24, 1), at(1967, 12, 1));
  error_of(ErrorKind::internal, [] { advance({}, 0, 1, 1); });
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { advance(month, january, 5000, 31); }), "outside of the years");
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { advance({kDay, 0}, january, 1 << 30, 31); }), "outside of the years");
  const std::vector<int64_t> ends = {at(2023, 4, 30), at(2023, 5, 31), at(2023, 6, 30)};
  EXPECT_EQ(anchor_day(ends), 31);
}

TEST(Frequencies, StepsBetweenIsTheInverse) {
  Random random(3);
  const Frequency frequencies[] = {{900 * kSecond, 0}, {kHour, 0}, {kDay, 0}, {0, 1}, {0, 3}, {0, 12}};
  for (int i = 0; i < 20'000; ++i) {
    const Frequency& frequency = frequencies[random() % std::size(frequencies)];
    const int day = 1 + static_cast<int>(random() % 31);
    const int month = 1 + static_cast<int>(random() % 12);
    // advance() clamps to the anchor: zero steps give a time that is on the calendar.
    const int64_t from = advance(frequency, at(1950 + static_cast<int>(random() % 100), month, 1, 5), 0, day);
    const auto steps = static_cast<int64_t>(random() % 201) - 100;
    const int64_t to = advance(frequency, from, steps, day);
    EXPECT_EQ(steps_between(frequency, from, to, day), steps) << iso_time(from) << ' ' << to_string(frequency);
    EXPECT_FALSE(steps_between(frequency, from, to + 1, day));
  }
}

// ---- a column

std::string problems_of(DateColumn& column, const std::vector<std::string>& cells) {
  int64_t line = 1;
  for (const std::string& cell : cells) column.read(cell, "f.csv", ++line, 1);
  return error_of(ErrorKind::data, [&] {
    Problems problems;
    column.finish(problems);
    problems.throw_if_any();
  });
}
std::string problems_of(const std::vector<std::string>& cells, const std::string& format = "",
                        const std::string& zone = "") {
  DateColumn column(format, zone);
  return problems_of(column, cells);
}

TEST(DateColumns, OneFormForAll) {
  EXPECT_EQ(problems_of({"2016-07-01", "2016-07-02 05:00", "2016-07-03T00:00Z"}), "");
  EXPECT_EQ(problems_of({"2016-07-01", "2016/7/2"}), "f.csv:3:1: '2016/7/2' is not a date; see --date-format");
  EXPECT_EQ(problems_of({"2016-07-01", "31.02.2020"}), "f.csv:3:1: '31.02.2020' is not a date; see --date-format");
  EXPECT_EQ(problems_of({"31.02.2020", "2016-07-01"}), "f.csv:2:1: '31.02.2020' is not a date; see --date-format");
  EXPECT_CONTAINS(problems_of({"31.02.2020"}, "%d.%m.%Y"), "f.csv:2:1: '31.02.2020' is not a date; see --date-format");
  EXPECT_EQ(problems_of({"29.02.2020", "01.03.2020"}, "%d.%m.%Y"), "");
  EXPECT_CONTAINS(problems_of({"a", "b", "c", "d", "e", "f", "g"}), "and 2 more: cells that are no dates");
}

TEST(DateColumns, AmbiguousFormsAreNeverGuessed) {
  const std::string both = problems_of({"01/02/2020", "02/02/2020"});
  EXPECT_CONTAINS(both, "f.csv:2:1: '01/02/2020'");
  EXPECT_CONTAINS(both, "--date-format='%d/%m/%Y' fits all 2 rows");
  EXPECT_CONTAINS(both, "--date-format='%m/%d/%Y' fits all 2 rows");
  const std::string one = problems_of({"01/02/2020 00:00", "13/02/2020 00:00", "14/02/2020 00:00"});
  EXPECT_CONTAINS(one, "--date-format='%d/%m/%Y %H:%M' fits all 3 rows");
  EXPECT_CONTAINS(one, "--date-format='%m/%d/%Y %H:%M' fits 1 of 3 rows, not '13/02/2020 00:00' (f.csv:3:1)");
  EXPECT_CONTAINS(problems_of({"20200131", "20200201"}), "--date-format='%Y%m%d' fits all 2 rows");
  EXPECT_CONTAINS(problems_of({"1990", "1991"}), "--date-format='%Y' fits all 2 rows");
  EXPECT_CONTAINS(problems_of({"31.01.2020", "31.02.2020"}),
                  "'%d.%m.%Y' fits 1 of 2 rows, not '31.02.2020' (f.csv:3:1)");
  EXPECT_CONTAINS(problems_of({"2016-7-1 0:00"}), "--date-format='%Y-%m-%d %H:%M' fits all 1 rows");
  EXPECT_CONTAINS(problems_of({"1/31/2020 1:00 PM"}), "--date-format='%m/%d/%Y %I:%M %p' fits all 1 rows");
  // Digits that are a time of day as well as seconds.
  EXPECT_CONTAINS(problems_of({"2020013100", "2020013101"}), "pass --date-format=epoch-s or --date-format=%Y%m%d%H");
  EXPECT_EQ(problems_of({"1467331200", "1467334800"}), "");
  EXPECT_EQ(problems_of({"2020013100", "1467334800"}), "");
}

TEST(DateColumns, TimesThatAClockSkipsOrShowsTwice) {
  EXPECT_EQ(problems_of({"2016-03-27 01:00", "2016-03-27 03:00"}, "", "Europe/Berlin"), "");
  const std::string skipped = problems_of({"2016-03-27 01:00", "2016-03-27 02:00"}, "", "Europe/Berlin");
  EXPECT_CONTAINS(skipped, "f.csv:3:1: '2016-03-27 02:00' does not exist in Europe/Berlin");
  EXPECT_CONTAINS(skipped, "from +01:00 to +02:00 after f.csv:2");
  EXPECT_CONTAINS(skipped, "Etc/GMT-1");
  const std::string twice = problems_of({"2016-10-30 02:00", "2016-10-30 02:00"}, "", "Europe/Berlin");
  EXPECT_CONTAINS(twice, "f.csv:2:1: '2016-10-30 02:00' was twice in Europe/Berlin, at +02:00 and at +01:00");
  EXPECT_CONTAINS(twice, "f.csv:3:1:");
  EXPECT_CONTAINS(twice, "(it stands at f.csv:2:1 too)");
  EXPECT_EQ(problems_of({"2016-10-30 02:00+02:00", "2016-10-30 02:00+01:00"}, "", "Europe/Berlin"), "");
}

}  // namespace
}  // namespace farsight
