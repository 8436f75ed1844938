// SPDX-License-Identifier: Apache-2.0
// Tables of measurements in every form they come in.
#include <algorithm>
#include <chrono>
#include <clocale>
#include <cmath>
#include <numeric>
#include <random>

#include "data/sha256.h"
#include "tests/data/series_csv_case.h"

namespace farsight {
namespace {

using Random = std::mt19937_64;
using SeriesCsvTest = SeriesCsvCase;

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

TEST_F(SeriesCsvTest, DecimalCommasInQuotesBetweenCommas) {
  SeriesCsvOptions o = options("date,a\n2020-01-01,\"1,5\"\n2020-01-02,\"2,5\"\n");
  o.decimal = ',';
  EXPECT_EQ(read_series_csv(o).table.series[0].values, (std::vector<float>{1.5F, 2.5F}));
}

// Exchange rates, weather and electricity prices as the files of the benchmarks have them.
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
  EXPECT_CONTAINS(weather.warnings[1], "--sentinel=-9999:'wv (W/m\xEF\xBF\xBD)' with --missing=mask");
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
  std::string iso = iso_time(ns);  // 2016-07-01T02:30:00Z
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

// How a table is written: what a reader has to cope with.
struct Dialect {
  char delimiter, decimal;
  bool quotes, mark, last_newline;
  std::string end, form;
  size_t date_column;
  std::vector<size_t> order;  // of the rows
};

Dialect random_dialect(Random& random, const RandomTable& table, bool shuffled) {
  static constexpr const char* kForms[] = {"iso", "blank", "slash", "epoch-s", "epoch-ms", "%d.%m.%Y %H:%M:%S"};
  Dialect dialect;
  dialect.decimal = random() % 3 == 0 ? ',' : '.';
  dialect.delimiter = dialect.decimal == ',' ? ";\t"[random() % 2] : ",;\t"[random() % 3];
  dialect.quotes = random() % 2 == 0;
  dialect.mark = random() % 4 == 0;
  dialect.last_newline = random() % 2 == 0;
  dialect.end = random() % 2 == 0 ? "\n" : "\r\n";
  dialect.form = kForms[random() % std::size(kForms)];
  dialect.date_column = random() % (table.columns + 1);
  dialect.order.resize(table.rows);
  std::iota(dialect.order.begin(), dialect.order.end(), size_t{0});
  if (shuffled) std::shuffle(dialect.order.begin(), dialect.order.end(), random);
  return dialect;
}

// One line of a file; `cell` gives the date for column SIZE_MAX.
template <typename Cell>
std::string line_in(const Dialect& dialect, size_t columns, Random& random, Cell cell) {
  std::string text;
  for (size_t c = 0, channel = 0; c <= columns; ++c) {
    const std::string content = cell(c == dialect.date_column ? SIZE_MAX : channel++);
    if (c > 0) text += dialect.delimiter;
    text += dialect.quotes && random() % 3 == 0 ? "\"" + content + "\"" : content;
  }
  return text + dialect.end;
}

std::string file_in(const Dialect& dialect, const RandomTable& table, size_t begin, size_t end, Random& random) {
  std::string text = dialect.mark ? "\xEF\xBB\xBF" : "";
  text += line_in(dialect, table.columns, random,
                  [](size_t c) { return c == SIZE_MAX ? std::string("date") : fmt::format("c{}", c); });
  for (size_t i = begin; i < end; ++i) {
    const size_t row = dialect.order[i];
    text += line_in(dialect, table.columns, random, [&](size_t c) {
      if (c == SIZE_MAX) return date_in(dialect.form, table.begin + static_cast<int64_t>(row) * table.step);
      std::string number = fmt::format("{}", table.values[row * table.columns + c]);
      std::replace(number.begin(), number.end(), '.', dialect.decimal);
      return number;
    });
  }
  if (!dialect.last_newline) text.resize(text.size() - dialect.end.size());
  return text;
}

// The same table in any dialect, order and number of files.
TEST_F(SeriesCsvTest, RandomTablesComeBackBitEqual) {
  Random random(6);
  for (int round = 0; round < 300; ++round) {
    const RandomTable table = random_table(random);
    SeriesCsvOptions o;
    o.sort = random() % 3 == 0;
    const Dialect dialect = random_dialect(random, table, o.sort);
    if (random() % 2 == 0) o.delimiter = dialect.delimiter;
    o.decimal = dialect.decimal;
    const bool stated = dialect.form.find('%') != std::string::npos || dialect.form.starts_with("epoch");
    if (stated) o.date_format = dialect.form;
    o.frequency = to_string(Frequency{table.step, 0});
    const size_t files = 1 + random() % 2;
    for (size_t f = 0; f < files; ++f) {
      o.inputs.push_back(scratch_.write(fmt::format("r{}.csv", f), file_in(dialect, table, f * table.rows / files,
                                                                           (f + 1) * table.rows / files, random)));
    }
    const SeriesCsv csv = read_series_csv(o);
    const Series& series = csv.table.series.at(0);
    ASSERT_EQ(series.rows(), static_cast<int64_t>(table.rows)) << round;
    for (size_t t = 0; t < table.rows; ++t) {
      ASSERT_EQ(series.time[t], table.begin + static_cast<int64_t>(t) * table.step);
    }
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
