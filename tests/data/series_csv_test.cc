// SPDX-License-Identifier: Apache-2.0
#include "data/series_csv.h"

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "data/date_time.h"
#include "data/sha256.h"
#include "tests/data/scratch.h"

namespace farsight {
namespace {

using Random = std::mt19937_64;
constexpr int64_t kHour = 3'600'000'000'000, kDay = 24 * kHour;

int64_t at(const char* text) { return read_date(DateForm::iso, text)->ns; }

// Bits, so that NaN equals NaN.
std::vector<uint32_t> bits(const std::vector<float>& values) {
  std::vector<uint32_t> result(values.size());
  std::memcpy(result.data(), values.data(), values.size() * sizeof(float));
  return result;
}

class SeriesCsvTest : public testing::Test {
 protected:
  SeriesCsvOptions options(const std::string& bytes) const {
    SeriesCsvOptions o;
    o.inputs = {scratch_.write("load.csv", bytes)};
    return o;
  }
  SeriesCsv read(const std::string& bytes) const { return read_series_csv(options(bytes)); }

  // What is wrong, without the folder of the test.
  std::string refused(const SeriesCsvOptions& o, ErrorKind kind = ErrorKind::data) const {
    std::string text = error_of(kind, [&] { read_series_csv(o); });
    for (size_t found = 0; (found = text.find(scratch_.folder() + "/")) != std::string::npos;) {
      text.erase(found, scratch_.folder().size() + 1);
    }
    return text;
  }
  std::string refused(const std::string& bytes) const { return refused(options(bytes)); }

  Scratch scratch_;
};

// Hourly rows "2020-01-01 00:00,0,1000", one less and one more.
std::string hourly(int rows) {
  std::string text = "date,a,b\n";
  for (int i = 0; i < rows; ++i)
    text += fmt::format("2020-01-{:02} {:02}:00,{},{}\n", 1 + i / 24, i % 24, i * 0.5, 1000 - i);
  return text;
}

std::string with_line(std::string text, int line, const std::string& other) {
  size_t begin = 0;
  for (int i = 1; i < line; ++i) begin = text.find('\n', begin) + 1;
  const size_t end = text.find('\n', begin);
  return text.replace(begin, other.empty() ? end + 1 - begin : end - begin, other);
}

TEST_F(SeriesCsvTest, APlainTable) {
  const SeriesCsv csv = read(hourly(30));
  const SeriesTable& table = csv.table;
  EXPECT_EQ(table.frequency, (Frequency{kHour, 0}));
  EXPECT_EQ(table.channels, (std::vector<Channel>{{.name = "a", .unit = "", .role = ChannelRole::target},
                                                  {.name = "b", .unit = "", .role = ChannelRole::target}}));
  ASSERT_EQ(table.series.size(), 1U);
  const Series& series = table.series[0];
  EXPECT_EQ(series.id, "0");
  EXPECT_TRUE(series.mask.empty());
  for (int64_t t = 0; t < 30; ++t) {
    EXPECT_EQ(series.time[static_cast<size_t>(t)], at("2020-01-01") + t * kHour);
    EXPECT_EQ(series.values[static_cast<size_t>(2 * t)], 0.5F * static_cast<float>(t));
    EXPECT_EQ(series.values[static_cast<size_t>(2 * t + 1)], static_cast<float>(1000 - t));
  }
  EXPECT_TRUE(csv.warnings.empty());
  Sha256 sha;
  sha.update(hourly(30).data(), hourly(30).size());
  EXPECT_EQ(csv.sha256, std::vector<std::string>{sha.hex()});
}

TEST_F(SeriesCsvTest, AnAwkwardFile) {
  SeriesCsvOptions o = options(
      "\xEF\xBB\xBF Datum ; \"Last, MW\" ;Wind (m/s);\r\n01.02.2020 00:00;1,5;-2;\r\n01.02.2020 01:00;2,5;1e1;");
  o.time = "Datum";
  o.date_format = "%d.%m.%Y %H:%M";
  o.decimal = ',';
  o.drop = {"column 4"};
  o.units = {"Last, MW=MW"};
  const SeriesCsv csv = read_series_csv(o);
  EXPECT_EQ(csv.table.channels[0].name, "Last, MW");
  EXPECT_EQ(csv.table.channels[0].unit, "MW");
  EXPECT_EQ(csv.table.channels[1].name, "Wind (m/s)");
  EXPECT_EQ(csv.table.series[0].values, (std::vector<float>{1.5F, -2.0F, 2.5F, 10.0F}));
  EXPECT_EQ(csv.table.series[0].time, (std::vector<int64_t>{at("2020-02-01"), at("2020-02-01T01:00")}));
}

// spec of the benchmark files: exchange rates, weather and electricity prices as they are written there.
TEST_F(SeriesCsvTest, QuirksOfBenchmarkFiles) {
  const SeriesCsv exchange =
      read("date,0,1,OT\n1990/1/1 0:00,0.7855,1.611,0.861698\n1990/1/2 0:00,0.7818,1.61,0.861104");
  EXPECT_EQ(exchange.table.frequency, (Frequency{kDay, 0}));
  EXPECT_EQ(exchange.table.series[0].time[0], at("1990-01-01"));
  EXPECT_EQ(exchange.table.series[0].values[5], 0.861104F);

  std::string text = "date,p (mbar),wv (W/m\xEF\xBF\xBD),rain (\xB2)\n";
  for (int i = 0; i < 200; ++i) {
    text += fmt::format("2020-01-{:02} {:02}:{:02}:00,{},{},{}\n", 1 + i / 144, i / 6 % 24, i % 6 * 10, 1000 + i % 7,
                        i == 90 ? -9999.0 : i % 5 * 0.5, i % 3 == 0 && i > 150 ? -99.9 : i % 4);
  }
  const SeriesCsv weather = read(text);
  EXPECT_EQ(weather.table.frequency, (Frequency{kHour / 6, 0}));
  EXPECT_EQ(weather.table.channels[1].name, "wv (W/m\xEF\xBF\xBD)");
  EXPECT_EQ(weather.table.channels[2].name, "rain (\xEF\xBF\xBD)");
  ASSERT_EQ(weather.warnings.size(), 3U);
  EXPECT_CONTAINS(weather.warnings[0], "load.csv:1:4: the name is not UTF-8");
  EXPECT_CONTAINS(weather.warnings[1], "-9999 stands there 1 times, all other values lie between 0 and 2;");
  EXPECT_CONTAINS(weather.warnings[1], "--sentinel=-9999:wv (W/m\xEF\xBF\xBD) with --missing=mask");
  EXPECT_CONTAINS(weather.warnings[2], "-99.9 stands there 16 times");

  const SeriesCsv price = read("date, Grid load forecast, OT\n2013-01-01 00:00:00,1,2\n2013-01-01 01:00:00,3,4\n");
  EXPECT_EQ(price.table.channels[0].name, "Grid load forecast");
}

TEST_F(SeriesCsvTest, RealEttFile) {
  FARSIGHT_NEEDS_REAL_DATA("ts/ETTh1.csv");
  SeriesCsvOptions o;
  o.inputs = {real_data("ts/ETTh1.csv")};
  const auto begin = std::chrono::steady_clock::now();
  const SeriesCsv csv = read_series_csv(o);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  RecordProperty("seconds", fmt::format("{:.3f}", seconds));
  const Series& series = csv.table.series.at(0);
  EXPECT_EQ(series.rows(), 17'420);
  EXPECT_EQ(csv.table.channels.size(), 7U);
  EXPECT_EQ(csv.table.channels.back().name, "OT");
  EXPECT_EQ(csv.table.frequency, (Frequency{kHour, 0}));
  EXPECT_EQ(iso_time(series.time.front()), "2016-07-01T00:00:00Z");
  EXPECT_EQ(iso_time(series.time.back()), "2018-06-26T19:00:00Z");
  EXPECT_TRUE(series.mask.empty());
  EXPECT_TRUE(csv.warnings.empty()) << csv.warnings[0];
  // Training means and deviations as published (rows [0, 8640)).
  const double means[] = {7.9377, 2.0210, 5.0798, .7462, 2.7818, .7885, 17.1283};
  const double deviations[] = {5.8127, 2.0901, 5.5188, 1.9264, 1.0235, .6302, 9.1765};
  for (size_t c = 0; c < 7; ++c) {
    double sum = 0.0, squares = 0.0;
    for (size_t t = 0; t < 8640; ++t) sum += series.values[t * 7 + c];
    for (size_t t = 0; t < 8640; ++t) squares += std::pow(series.values[t * 7 + c] - sum / 8640, 2);
    EXPECT_NEAR(sum / 8640, means[c], 6e-5);
    EXPECT_NEAR(std::sqrt(squares / 8640), deviations[c], 6e-5);
  }
}

// ---- roles

TEST_F(SeriesCsvTest, RolesAndSeries) {
  SeriesCsvOptions o = options(
      "ds,id,area,y,x,plan,note\n"
      "2020-01-01,B,2,1,10,5,n\n2020-01-01,A,3,100,20,6,n\n2020-01-02,B,2,2,11,7,n\n2020-01-02,A,,101,21,8,n\n");
  o.series = "id";
  o.statics = {"area"};
  o.targets = {"y"};
  o.known_future = {"plan"};
  o.drop = {"note"};
  const SeriesCsv csv = read_series_csv(o);
  EXPECT_EQ(csv.table.static_names, std::vector<std::string>{"area"});
  ASSERT_EQ(csv.table.channels.size(), 3U);
  EXPECT_EQ(csv.table.channels[0].role, ChannelRole::target);
  EXPECT_EQ(csv.table.channels[1].role, ChannelRole::past);  // what is not named
  EXPECT_EQ(csv.table.channels[2].role, ChannelRole::known_future);
  ASSERT_EQ(csv.table.series.size(), 2U);
  EXPECT_EQ(csv.table.series[0].id, "B");
  EXPECT_EQ(csv.table.series[1].id, "A");
  EXPECT_EQ(csv.table.series[0].statics, std::vector<float>{2.0F});
  EXPECT_EQ(csv.table.series[1].statics, std::vector<float>{3.0F});
  EXPECT_EQ(csv.table.series[1].values, (std::vector<float>{100, 20, 6, 101, 21, 8}));
  o.targets = {};
  o.past = {"x"};
  EXPECT_EQ(read_series_csv(o).table.channels[0].role, ChannelRole::target);
}

TEST_F(SeriesCsvTest, StaticsAreOneNumberPerSeries) {
  SeriesCsvOptions o = options("ds,s,y\n2020-01-01,1,1\n2020-01-02,2,2\n");
  o.statics = {"s"};
  EXPECT_CONTAINS(refused(o), "load.csv:3:2: static s is 2, but 1 in line 2; --past=s makes a channel of it");
  o = options("ds,s,y\n2020-01-01,,1\n2020-01-02,,2\n");
  o.statics = {"s"};
  EXPECT_CONTAINS(refused(o), "no number in the static column s");
}

TEST_F(SeriesCsvTest, SeveralFilesAreOneTable) {
  SeriesCsvOptions o = options("date,a\n2020-01-01,1\n");
  o.inputs.push_back(scratch_.write("b.csv", "date;a\n2020-01-02;2\n2020-01-03;3\n"));
  const SeriesCsv csv = read_series_csv(o);
  EXPECT_EQ(csv.table.series[0].values, (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(csv.sha256.size(), 2U);
  scratch_.write("b.csv", "date,c\n2020-01-02,2\n");
  EXPECT_CONTAINS(refused(o), "b.csv:1:2: column 'c' is 'a' in load.csv");
  scratch_.write("b.csv", "date,a,c\n2020-01-02,2,3\n");
  EXPECT_CONTAINS(refused(o), "b.csv:1: 3 columns, expected 2");
  scratch_.write("b.csv", "date,a\n2020-01-01,2\n");
  EXPECT_CONTAINS(refused(o), "b.csv:2:1: the time 2020-01-01T00:00:00Z is that of load.csv:2; use --duplicates=");
}

TEST_F(SeriesCsvTest, NamesThatDoNotFit) {
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

TEST_F(SeriesCsvTest, OptionsThatContradictEachOther) {
  SeriesCsvOptions o = options(hourly(5));
  o.decimal = ',';
  EXPECT_CONTAINS(refused(o, ErrorKind::usage), "--decimal=, is also what stands between the columns");
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

TEST_F(SeriesCsvTest, BadInputIsNamedWithItsPlace) {
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

TEST_F(SeriesCsvTest, ProblemsOfAKindAreCountedAndFiveAreListed) {
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

TEST_F(SeriesCsvTest, AmbiguousDatesAndDecimalPoints) {
  EXPECT_CONTAINS(refused("date,a\n01/02/2020,1\n02/02/2020,2\n"), "--date-format='%d/%m/%Y' fits all 2 rows");
  SeriesCsvOptions o = options("date;a\n2020-01-01;1.5\n2020-01-02;1,5\n");
  EXPECT_CONTAINS(refused(o), "load.csv:3:2: '1,5' looks like a decimal comma: --decimal=,");
  o.decimal = ',';
  EXPECT_CONTAINS(refused(o), "load.csv:2:2: '1.5' looks like a decimal point");
}

// ---- missing values

TEST_F(SeriesCsvTest, MissingCellsAreMaskedOrFilled) {
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

TEST_F(SeriesCsvTest, MissingRowsAreInserted) {
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

TEST_F(SeriesCsvTest, AWrongYearIsNotFilledWithMillionsOfRows) {
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

TEST_F(SeriesCsvTest, DuplicatesAreTreatedAsAsked) {
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

TEST_F(SeriesCsvTest, SortingIsStable) {
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

TEST_F(SeriesCsvTest, FrequencyIsFoundByCalendarToo) {
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

TEST_F(SeriesCsvTest, AFrequencyThatIsNotConstant) {
  std::string text = "date,a\n";
  for (int i = 0; i < 40; ++i) {
    if (i % 10 != 5) text += fmt::format("2020-01-{:02},{}\n", 1 + i % 31 + 0 * i, i);
    if (i == 30) break;
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

TEST_F(SeriesCsvTest, MissingMonthsAreInsertedByCalendar) {
  SeriesCsvOptions o = options("date,a\n2020-01-31,1\n2020-02-29,2\n2020-05-31,5\n");
  o.frequency = "1M";
  o.missing = MissingPolicy::mask;
  EXPECT_EQ(
      read_series_csv(o).table.series[0].time,
      (std::vector<int64_t>{at("2020-01-31"), at("2020-02-29"), at("2020-03-31"), at("2020-04-30"), at("2020-05-31")}));
}

TEST_F(SeriesCsvTest, ClocksThatAreChanged) {
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

TEST_F(SeriesCsvTest, RowsToForecastAreKept) {
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

TEST_F(SeriesCsvTest, RowsToForecastHaveTheirPlan) {
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

TEST_F(SeriesCsvTest, ConstantChannelsAreWarnedAbout) {
  const SeriesCsv csv =
      read("date,a,b,c\n2020-01-01,1,7,999.9\n2020-01-02,2,7,5\n2020-01-03,3,7,999.9\n2020-01-04,1,7,4\n");
  ASSERT_EQ(csv.warnings.size(), 2U);
  EXPECT_CONTAINS(csv.warnings[0], "channel b: constant, 7 in all 4 rows");
  EXPECT_CONTAINS(csv.warnings[1], "channel c: 999.9 stands there 2 times, all other values lie between 4 and 5");
  EXPECT_CONTAINS(csv.warnings[1], "--sentinel=999.9:c");
}

// ---- random tables

struct RandomTable {
  int64_t begin = 0, step = 0;
  size_t rows = 0, columns = 0;
  std::vector<float> values;
};

RandomTable random_table(Random& random) {
  constexpr int64_t kSteps[] = {60'000'000'000, 15 * 60'000'000'000, kHour, 6 * kHour, kDay, 7 * kDay};
  RandomTable table;
  table.step = kSteps[random() % std::size(kSteps)];
  table.begin = at("1985-01-01") + static_cast<int64_t>(random() % 10'000) * kDay;
  table.rows = 2 + random() % 200;
  table.columns = 1 + random() % 5;
  for (size_t i = 0; i < table.rows * table.columns; ++i) {
    const double size = std::pow(10.0, static_cast<double>(random() % 12) - 6.0);
    table.values.push_back(static_cast<float>((static_cast<double>(random() % 2'000'001) - 1e6) * size));
  }
  return table;
}

std::string date_in(const std::string& form, int64_t ns) {
  const std::string iso = iso_time(ns);  // 2016-07-01T02:30:00Z
  const std::string y = iso.substr(0, 4), m = iso.substr(5, 2), d = iso.substr(8, 2), time = iso.substr(11, 8);
  const auto bare = [](const std::string& two) { return two[0] == '0' ? two.substr(1) : two; };
  if (form == "iso") return iso;
  if (form == "blank") return fmt::format("{}-{}-{} {}", y, m, d, time);
  if (form == "slash")
    return fmt::format("{}/{}/{} {}:{}", y, bare(m), bare(d), bare(time.substr(0, 2)), time.substr(3, 2));
  if (form == "epoch-s") return fmt::format("{}", ns / 1'000'000'000);
  if (form == "epoch-ms") return fmt::format("{}", ns / 1'000'000);
  return fmt::format("{}.{}.{} {}", d, m, y, time);
}

// The same table in any dialect, order and number of files.
TEST_F(SeriesCsvTest, RandomTablesComeBackBitEqual) {
  Random random(6);
  for (int round = 0; round < 300; ++round) {
    const RandomTable table = random_table(random);
    SeriesCsvOptions o;
    const bool comma = random() % 3 == 0;
    const char delimiter = comma ? ";\t"[random() % 2] : ",;\t"[random() % 3];
    if (random() % 2 == 0) o.delimiter = delimiter;
    o.decimal = comma ? ',' : '.';
    const char* const forms[] = {"iso", "blank", "slash", "epoch-s", "epoch-ms", "%d.%m.%Y %H:%M:%S"};
    const std::string form = forms[random() % std::size(forms)];
    if (form.find('%') != std::string::npos || form.starts_with("epoch")) o.date_format = form;
    o.frequency = to_string(Frequency{table.step, 0});
    const size_t date_column = random() % (table.columns + 1);
    std::vector<size_t> order(table.rows);
    std::iota(order.begin(), order.end(), size_t{0});
    o.sort = random() % 3 == 0;
    if (o.sort) std::shuffle(order.begin(), order.end(), random);
    const std::string end = random() % 2 == 0 ? "\n" : "\r\n";
    const auto quoted = [&](const std::string& text) { return random() % 4 == 0 ? "\"" + text + "\"" : text; };
    const auto line = [&](auto cell) {
      std::string text;
      for (size_t c = 0, channel = 0; c <= table.columns; ++c) {
        if (c > 0) text += delimiter;
        text += quoted(cell(c == date_column ? SIZE_MAX : channel++));
      }
      return text + end;
    };
    const std::string header =
        line([](size_t c) { return c == SIZE_MAX ? std::string("date") : fmt::format("c{}", c); });
    const size_t files = 1 + random() % 2;
    for (size_t f = 0; f < files; ++f) {
      std::string text = (random() % 4 == 0 ? "\xEF\xBB\xBF" : "") + header;
      for (size_t i = f * table.rows / files; i < (f + 1) * table.rows / files; ++i) {
        text += line([&](size_t c) {
          if (c == SIZE_MAX) return date_in(form, table.begin + static_cast<int64_t>(order[i]) * table.step);
          std::string number = fmt::format("{}", table.values[order[i] * table.columns + c]);
          std::replace(number.begin(), number.end(), '.', o.decimal);
          return number;
        });
      }
      if (random() % 2 == 0) text.resize(text.size() - end.size());
      o.inputs.push_back(scratch_.write(fmt::format("r{}.csv", f), text));
    }
    const SeriesCsv csv = read_series_csv(o);
    const Series& series = csv.table.series.at(0);
    ASSERT_EQ(series.rows(), static_cast<int64_t>(table.rows)) << round;
    for (size_t t = 0; t < table.rows; ++t)
      ASSERT_EQ(series.time[t], table.begin + static_cast<int64_t>(t) * table.step);
    ASSERT_EQ(bits(series.values), bits(table.values)) << round;
  }
}

TEST_F(SeriesCsvTest, NeitherLocaleNorZoneOfTheMachineMatters) {
  const SeriesCsv expected = read(hourly(50));
  setenv("TZ", "America/New_York", 1);
  tzset();
  for (const char* locale : {"de_DE.UTF-8", "tr_TR.UTF-8", "C.UTF-8"}) {
    std::setlocale(LC_ALL, locale);
    const SeriesCsv csv = read(hourly(50));
    EXPECT_EQ(csv.table.series[0].time, expected.table.series[0].time);
    EXPECT_EQ(csv.table.series[0].values, expected.table.series[0].values);
  }
  std::setlocale(LC_ALL, "C");
  unsetenv("TZ");
  tzset();
}

}  // namespace
}  // namespace farsight
