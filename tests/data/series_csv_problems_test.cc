// SPDX-License-Identifier: Apache-2.0
// What read_series_csv refuses and what it says, and what it does with gaps, duplicates and missing values when told
// to.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/data/series_csv_case.h"

namespace farsight {
namespace {

using SeriesCsvProblems = SeriesCsvCase;

// The text with another line, or without it.
std::string with_line(std::string text, int line, const std::string& other) {
  size_t begin = 0;
  for (int i = 1; i < line; ++i) begin = text.find('\n', begin) + 1;
  const size_t end = text.find('\n', begin);
  return text.replace(begin, other.empty() ? end + 1 - begin : end - begin, other);
}

TEST_F(SeriesCsvProblems, NamesThatDoNotFit) {
  SeriesCsvOptions o = options("timestamp,OT\n2020-01-01,1\n2020-01-02,1.5\n");
  EXPECT_EQ(read_series_csv(o).table.channels.size(), 1U);
  o.time = "date";
  EXPECT_EQ(refused(o), "load.csv:1: no column 'date' (has: timestamp, OT); see --time");
  o.time = "";
  o.targets = {"T", "OT", "U"};
  EXPECT_CONTAINS(refused(o), "no column 'T' (has: timestamp, OT); see --targets\nload.csv:1: no column 'U'");
  o.targets = {"OT"};
  o.drop = {"OT"};
  EXPECT_CONTAINS(refused(o, ErrorKind::usage), "column 'OT' is named by --drop and --targets");
  o.targets = {};
  EXPECT_CONTAINS(refused(o), "no channel is left to forecast");
  o.drop = {};
  o.units = {"OT"};
  EXPECT_CONTAINS(refused(o, ErrorKind::usage), "--unit=OT: write CHANNEL=UNIT");
  o.units = {"X=m"};
  EXPECT_CONTAINS(refused(o), "no column 'X' (has: timestamp, OT); see --unit");
  o.units = {};
  o.sentinels = {{.value = -1, .channel = "X"}};
  EXPECT_CONTAINS(refused(o), "no channel 'X'; see --sentinel=-1:X");
  EXPECT_CONTAINS(refused("x,y\n1,2\n"), "load.csv:1: no column 'date' (has: x, y): none is called date");
  EXPECT_EQ(read("when,y\n2020-01-01,2\n2020-01-02,2.5\n").table.channels.size(), 1U);
  EXPECT_CONTAINS(refused("date,time,y\n2020-01-01,00:00,1\n"),
                  "2 columns could be the time: date, time; say which with --time");
  EXPECT_CONTAINS(refused("date,y,y\n2020-01-01,1,1\n"), "load.csv:1:3: column 2 is called 'y' too");
  EXPECT_CONTAINS(refused(",date,y\n0,2020-01-01,1\n"),
                  "load.csv:1:1: column 1 has no name; leave it out with --drop='column 1'");
  EXPECT_CONTAINS(refused(""), "load.csv: the file is empty");
  EXPECT_CONTAINS(refused("date,y\n"), "load.csv: no row below the header");
  EXPECT_CONTAINS(refused(SeriesCsvOptions{}, ErrorKind::usage), "no input file");
}

TEST_F(SeriesCsvProblems, OptionsThatContradictEachOther) {
  SeriesCsvOptions o = options(hourly(5));
  o.decimal = ';';
  refused(o, ErrorKind::usage);
  o.decimal = '.';
  o.frequency = "often";
  EXPECT_CONTAINS(refused(o, ErrorKind::usage), "frequency 'often'");
  o.frequency = "auto";
  o.timezone = "Mars";
  EXPECT_CONTAINS(refused(o, ErrorKind::usage), "--timezone=Mars: no such zone");
  o.timezone = "";
  o.delimiter = '.';
  EXPECT_CONTAINS(refused(o, ErrorKind::usage), "--delimiter=.");
}

// ---- bad input: every row of the table in the specification of the data tools

TEST_F(SeriesCsvProblems, BadInputIsNamedWithItsPlace) {
  struct Case {
    int line;
    const char* text;
    const char* message;
  };
  const Case cases[] = {
      {5, "31.02.2020,1,2", "load.csv:5:1: '31.02.2020' is not a date; see --date-format"},
      {5, "2020-02-30 00:00,1,2", "load.csv:5:1: '2020-02-30 00:00' is not a date; see --date-format"},
      {5, "2020-01-01 03:00,1,n/a", "load.csv:5:3: 'n/a' in channel b; use --missing=mask or ffill"},
      {5, "2020-01-01 03:00,1,", "load.csv:5:3: '' in channel b; use --missing=mask or ffill"},
      {5, "2020-01-01 03:00,NaN,2", "load.csv:5:2: 'NaN' in channel a; use --missing=mask or ffill"},
      {5, "2020-01-01 03:00,1,-inf", "load.csv:5:3: '-inf' in channel b; use --missing=mask or ffill"},
      {5, "2020-01-01 03:00,1,12kW", "load.csv:5:3: '12kW' in channel b; use --missing=mask or ffill"},
      {5, "2020-01-01 03:00,1,12kW", "cells without a number, by channel: b 1"},
      {5, "2020-01-01 03:00,1", "load.csv:5: 2 columns, expected 3"},
      {5, "2020-01-01 03:00,1,2,3", "load.csv:5: 4 columns, expected 3; are there decimal commas?"},
      {5, "2020-01-01 03:00,1,\"1.234,5\"", "load.csv:5:3: '1.234,5' looks like a decimal comma: --decimal=,"},
      {5, "2020-01-01 03:00,1,\"1,234.5\"", "load.csv:5:3: '1,234.5' has separators of thousands"},
      {5, "2020-01-01 03:00,1,1e99", "load.csv:5:3: '1e99' is beyond the range of 32-bit floating point"},
      {5, "2020-01-01 02:00,1,2", "load.csv:5:1: the time 2020-01-01T02:00:00Z is that of line 4; use --duplicates="},
      {5, "2020-01-01 01:30,1,2",
       "load.csv:5:1: 2020-01-01T01:30:00Z is before 2020-01-01T02:00:00Z in line 4; use --sort"},
      {5, "",
       "load.csv:5:1: 1 rows are missing between 2020-01-01T02:00:00Z in line 4 and 2020-01-01T04:00:00Z; use "
       "--missing="},
      {5, "", "1 gaps, 1 missing rows in all"},
      {5, "2020-01-01 03:10,1,2",
       "load.csv:5:1: 2020-01-01T03:10:00Z is 70min after line 4, no whole number of steps of 1h"},
      {5, "2020-01-01 03:00,1,\"2", "load.csv:5:3: the quote that begins here is not closed"},
      {5, "\n2020-01-01 03:00,1,2", "load.csv:5: an empty line between rows"},
      {1, "date,a,a", "load.csv:1:3: column 2 is called 'a' too"},
      {1, "day,a,b\nx,1,2", "load.csv:1: no column 'date' (has: day, a, b)"},
  };
  for (const Case& each : cases) EXPECT_CONTAINS(refused(with_line(hourly(300), each.line, each.text)), each.message);
}

TEST_F(SeriesCsvProblems, ProblemsOfAKindAreCountedAndFiveAreListed) {
  std::string text = hourly(300);
  for (int line = 10; line < 18; ++line) text = with_line(text, line, fmt::format("2020-01-01 {:02}:00,x,y", line - 2));
  text = with_line(text, 30, "yesterday,1,2");
  const std::string message = refused(text);
  EXPECT_CONTAINS(message, "load.csv:30:1: 'yesterday' is not a date");
  EXPECT_CONTAINS(message, "load.csv:10:2: 'x' in channel a");
  EXPECT_CONTAINS(message, "load.csv:12:2: 'x' in channel a");
  EXPECT_CONTAINS(message, "... and 11 more: cells without a number");
  EXPECT_CONTAINS(message, "by channel: a 8, b 8");
  EXPECT_EQ(message.find("load.csv:14"), std::string::npos);
}

TEST_F(SeriesCsvProblems, AmbiguousDatesAndDecimalPoints) {
  EXPECT_CONTAINS(refused("date,a\n01/02/2020,1\n02/02/2020,2\n"), "--date-format='%d/%m/%Y' fits all 2 rows");
  SeriesCsvOptions o = options("date;a\n2020-01-01;1.5\n2020-01-02;1,5\n");
  EXPECT_CONTAINS(refused(o), "load.csv:3:2: '1,5' looks like a decimal comma: --decimal=,");
  o.decimal = ',';
  EXPECT_CONTAINS(refused(o), "load.csv:2:2: '1.5' looks like a decimal point");
}

// ---- missing values

TEST_F(SeriesCsvProblems, MissingCellsAreMaskedOrFilled) {
  SeriesCsvOptions o = options("date,a,b\n2020-01-01,1,\n2020-01-02,NA,2\n2020-01-03,-9999,-9999\n2020-01-04,4,bad\n");
  o.missing = MissingPolicy::mask;
  o.sentinels = {{.value = -9999, .channel = "a"}};
  const SeriesCsv masked = read_series_csv(o);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(bits(masked.table.series[0].values), bits({1, nan, nan, 2, nan, -9999, 4, nan}));
  EXPECT_EQ(masked.table.series[0].mask, (std::vector<uint8_t>{1, 0, 0, 1, 0, 1, 1, 0}));
  EXPECT_EQ(masked.filled, 4);
  EXPECT_CONTAINS(masked.warnings.at(0), "channel b: 1 cells are neither numbers nor empty");
  EXPECT_CONTAINS(masked.warnings.at(0), "'bad' (");
  o.sentinels = {{.value = -9999, .channel = ""}};
  o.missing = MissingPolicy::forward_fill;
  EXPECT_CONTAINS(refused(o), "load.csv:2:3: channel b begins with 1 rows without a number, and --missing=ffill");
  o.drop = {"b"};
  const SeriesCsv filled = read_series_csv(o);
  EXPECT_EQ(filled.table.series[0].values, (std::vector<float>{1, 1, 1, 4}));
  EXPECT_TRUE(filled.table.series[0].mask.empty());
  EXPECT_EQ(filled.filled, 2);
  o.missing = MissingPolicy::error;
  EXPECT_CONTAINS(refused(o), "load.csv:4:2: '-9999' in channel a; use --missing=mask or ffill");
  o = options("date,a,b\n2020-01-01,1,\n2020-01-02,2,\n");
  o.missing = MissingPolicy::mask;
  EXPECT_CONTAINS(refused(o), "load.csv:1:3: no number in channel b; leave it out with --drop='b'");
}

TEST_F(SeriesCsvProblems, MissingRowsAreInserted) {
  std::string text = hourly(400);
  text = with_line(with_line(with_line(text, 100, ""), 100, ""), 200, "");
  SeriesCsvOptions o = options(text);
  EXPECT_CONTAINS(refused(o), "load.csv:100:1: 2 rows are missing");
  EXPECT_CONTAINS(refused(o), "2 gaps, 3 missing rows in all");
  o.missing = MissingPolicy::forward_fill;
  const SeriesCsv filled = read_series_csv(o);
  EXPECT_EQ(filled.inserted_rows, 3);
  EXPECT_EQ(filled.filled, 6);
  const Series& series = filled.table.series[0];
  ASSERT_EQ(series.rows(), 400);
  for (size_t t = 0; t < 400; ++t) {
    EXPECT_EQ(series.time[t], at("2020-01-01") + static_cast<int64_t>(t) * kHour);
    const size_t from = t == 98 || t == 99 ? 97 : t == 200 ? 199 : t;  // data row t stands in line t + 2
    EXPECT_EQ(series.values[2 * t], 0.5F * static_cast<float>(from)) << t;
  }
  o.missing = MissingPolicy::mask;
  const SeriesCsv masked = read_series_csv(o);
  EXPECT_EQ(std::count(masked.table.series[0].mask.begin(), masked.table.series[0].mask.end(), 0), 6);
  o.frequency = "irregular";
  EXPECT_EQ(read_series_csv(o).table.series[0].rows(), 397);
  EXPECT_EQ(read_series_csv(o).table.frequency, Frequency{});
}

TEST_F(SeriesCsvProblems, AWrongYearIsNotFilledWithMillionsOfRows) {
  SeriesCsvOptions o = options(hourly(300) + "2120-01-01 00:00,1,2\n");
  o.missing = MissingPolicy::mask;
  EXPECT_CONTAINS(refused(o), "is one of the two dates wrong");
  o = options(hourly(300));
  o.frequency = "1s";
  o.missing = MissingPolicy::mask;
  EXPECT_CONTAINS(refused(o), "or --freq?");
  EXPECT_CONTAINS(refused("date,a\n1700-01-01,1\n2200-01-01,2\n2200-01-02,2\n"), "is more than 292 years after");
}

// ---- order

TEST_F(SeriesCsvProblems, DuplicatesAreTreatedAsAsked) {
  SeriesCsvOptions o = options("date,a,b\n2020-01-01,1,5\n2020-01-02,2,\n2020-01-02,4,7\n2020-01-03,8,8\n");
  EXPECT_CONTAINS(
      refused(o),
      "load.csv:4:1: the time 2020-01-02T00:00:00Z is that of line 3; use --duplicates=first, last or mean");
  o.duplicates = DuplicatePolicy::last;
  o.missing = MissingPolicy::mask;
  EXPECT_EQ(read_series_csv(o).table.series[0].values, (std::vector<float>{1, 5, 4, 7, 8, 8}));
  o.duplicates = DuplicatePolicy::mean;  // of what is there
  EXPECT_EQ(read_series_csv(o).table.series[0].values, (std::vector<float>{1, 5, 3, 7, 8, 8}));
  o.duplicates = DuplicatePolicy::first;
  EXPECT_TRUE(std::isnan(read_series_csv(o).table.series[0].values[3]));
}

TEST_F(SeriesCsvProblems, SortingIsStable) {
  SeriesCsvOptions o = options("date,a\n2020-01-03,3\n2020-01-01,1\n2020-01-02,2\n2020-01-01,9\n");
  EXPECT_CONTAINS(refused(o),
                  "load.csv:3:1: 2020-01-01T00:00:00Z is before 2020-01-03T00:00:00Z in line 2; use --sort");
  o.sort = true;
  EXPECT_CONTAINS(refused(o), "load.csv:5:1: the time 2020-01-01T00:00:00Z is that of line 3");
  o.duplicates = DuplicatePolicy::first;
  EXPECT_EQ(read_series_csv(o).table.series[0].values, (std::vector<float>{1, 2, 3}));
  o.duplicates = DuplicatePolicy::last;
  EXPECT_EQ(read_series_csv(o).table.series[0].values, (std::vector<float>{9, 2, 3}));
}

// ---- frequency and zones

TEST_F(SeriesCsvProblems, FrequencyIsFoundByCalendarToo) {
  const auto frequency = [&](const std::vector<const char*>& dates) {
    std::string text = "date,a\n";
    for (size_t i = 0; i < dates.size(); ++i) text += fmt::format("{},{}\n", dates[i], i);
    return to_string(read(text).table.frequency);
  };
  EXPECT_EQ(frequency({"2020-01-01", "2020-02-01", "2020-03-01"}), "1M");
  EXPECT_EQ(frequency({"1949-01", "1949-02", "1949-03", "1949-04"}), "1M");
  EXPECT_EQ(frequency({"2019-11-30", "2019-12-31", "2020-01-31", "2020-02-29", "2020-03-31"}), "1M");
  EXPECT_EQ(frequency({"2020-07-01", "2020-08-01"}), "1M");
  EXPECT_EQ(frequency({"2020-01-01", "2020-04-01", "2020-07-01"}), "3M");
  EXPECT_EQ(frequency({"2018-12-31", "2019-12-31", "2020-12-31"}), "12M");
  EXPECT_EQ(frequency({"2020-01-06", "2020-01-13", "2020-01-20"}), "7d");
  EXPECT_EQ(frequency({"2021-02-01", "2021-03-01", "2021-03-29"}), "28d");
  EXPECT_EQ(frequency({"2021-02-01 00:00", "2021-02-01 00:15"}), "15min");
  EXPECT_CONTAINS(refused("date,a\n2020-01-01,1\n"), "one row tells no frequency; pass --freq");
}

TEST_F(SeriesCsvProblems, AFrequencyThatIsNotConstant) {
  std::string text = "date,a\n";
  for (int i = 0; i < 31; ++i) {
    if (i % 10 != 5) text += fmt::format("2020-01-{:02},{}\n", 1 + i, i);
  }
  SeriesCsvOptions o = options(text);
  const std::string message = refused(o);
  EXPECT_CONTAINS(message, "the most frequent step is 1d, in 88.9 % of 27 steps, and 99 % are needed; pass --freq=1d");
  EXPECT_CONTAINS(message, "load.csv:7:1: 2020-01-07T00:00:00Z is 2d after line 6");
  o.frequency = "1d";
  EXPECT_CONTAINS(refused(o), "3 gaps, 3 missing rows in all");
  o.missing = MissingPolicy::mask;
  EXPECT_EQ(read_series_csv(o).table.series[0].rows(), 31);
  o.frequency = "2d";
  EXPECT_CONTAINS(refused(o), "2020-01-02T00:00:00Z is 1d after line 2, no whole number of steps of 2d");
}

TEST_F(SeriesCsvProblems, MissingMonthsAreInsertedByCalendar) {
  SeriesCsvOptions o = options("date,a\n2020-01-31,1\n2020-02-29,2\n2020-05-31,5\n");
  o.frequency = "1M";
  o.missing = MissingPolicy::mask;
  EXPECT_EQ(
      read_series_csv(o).table.series[0].time,
      (std::vector<int64_t>{at("2020-01-31"), at("2020-02-29"), at("2020-03-31"), at("2020-04-30"), at("2020-05-31")}));
}

TEST_F(SeriesCsvProblems, ClocksThatAreChanged) {
  // Hours of a clock in Berlin on the day it is put forward, and back.
  std::string spring = "date,a\n", autumn = "date,a\n";
  for (int h = 0; h < 24; ++h) {
    if (h != 2) spring += fmt::format("2016-03-27 {:02}:00,{}\n", h, h);
    autumn += fmt::format("2016-10-30 {:02}:00,{}\n", h, h);
    if (h == 2) autumn += fmt::format("2016-10-30 {:02}:00,{}\n", h, h);
  }
  SeriesCsvOptions o = options(spring);
  o.timezone = "Europe/Berlin";
  const SeriesCsv csv = read_series_csv(o);
  EXPECT_EQ(csv.table.series[0].rows(), 23);
  EXPECT_EQ(csv.table.series[0].time[0], at("2016-03-26T23:00"));
  EXPECT_EQ(csv.table.series[0].time[22], at("2016-03-27T21:00"));
  o.timezone = "";
  o.frequency = "1h";
  EXPECT_CONTAINS(refused(o), "or --timezone if clocks were put forward then");
  o = options(autumn);
  EXPECT_CONTAINS(refused(o), "load.csv:5:1: the time 2016-10-30T02:00:00Z is that of line 4");
  EXPECT_CONTAINS(refused(o), "or --timezone if clocks were put back then");
  o.timezone = "Europe/Berlin";
  EXPECT_CONTAINS(refused(o), "load.csv:5:1: '2016-10-30 02:00' was twice in Europe/Berlin, at +02:00 and at +01:00");
}

// ---- the end of the input of a forecast

TEST_F(SeriesCsvProblems, RowsToForecastAreKept) {
  SeriesCsvOptions o = options("date,y,x,plan\n2020-01-01,1,5,7\n2020-01-02,2,6,8\n2020-01-03,,,9\n2020-01-04,,,10\n");
  o.targets = {"y"};
  o.known_future = {"plan"};
  EXPECT_CONTAINS(refused(o), "load.csv:4:2: '' in channel y");
  o.open_end = true;
  const SeriesCsv csv = read_series_csv(o);
  EXPECT_EQ(csv.open_rows, 2);
  EXPECT_EQ(csv.filled, 0);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(bits(csv.table.series[0].values), bits({1, 5, 7, 2, 6, 8, nan, nan, 9, nan, nan, 10}));
  EXPECT_EQ(csv.table.series[0].mask, (std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 1}));
  o.missing = MissingPolicy::forward_fill;  // fills what was not measured, not what is to come
  EXPECT_EQ(bits(read_series_csv(o).table.series[0].values), bits(csv.table.series[0].values));
}

TEST_F(SeriesCsvProblems, RowsToForecastHaveTheirPlan) {
  SeriesCsvOptions o = options("date,y,plan\n2020-01-01,1,7\n2020-01-02,,8\n2020-01-03,3,9\n2020-01-04,,\n");
  o.targets = {"y"};
  o.known_future = {"plan"};
  o.open_end = true;
  const std::string message = refused(o);
  EXPECT_CONTAINS(message, "load.csv:3:2: no number in channel y at 2020-01-02T00:00:00Z");
  EXPECT_CONTAINS(message, "load.csv:5:3: no number in channel plan");
  o = options("ds,id,y\n2020-01-01,A,1\n2020-01-02,A,\n2020-01-01,B,1\n2020-01-02,B,2\n2020-01-01,C,\n");
  o.series = "id";
  o.open_end = true;
  EXPECT_CONTAINS(refused(o), "0 rows at the end of series 'B' have no target, but 1 of series 'A'");
  EXPECT_CONTAINS(refused(o), "load.csv:6:1: no row of series 'C' has a target");
}

TEST_F(SeriesCsvProblems, ConstantChannelsAreWarnedAbout) {
  const SeriesCsv csv =
      read("date,a,b,c\n2020-01-01,1,7,999.9\n2020-01-02,2,7,5\n2020-01-03,3,7,999.9\n2020-01-04,1,7,4\n");
  ASSERT_EQ(csv.warnings.size(), 2U);
  EXPECT_CONTAINS(csv.warnings[0], "channel b: constant, 7 in all 4 rows");
  EXPECT_CONTAINS(csv.warnings[1], "channel c: 999.9 stands there 2 times, all other values lie between 4 and 5");
  EXPECT_CONTAINS(csv.warnings[1], "--sentinel=999.9:c");
}

}  // namespace
}  // namespace farsight
