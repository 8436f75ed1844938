// SPDX-License-Identifier: Apache-2.0
#include "data/series_split.h"

#include "data/date_time.h"
#include "tests/data/scratch.h"

namespace farsight {
namespace {

constexpr int64_t kHour = 3'600'000'000'000;

// Series of these lengths at hourly rows from 2020-01-01, each a day later than the one before.
SeriesTable table_of(const std::vector<int64_t>& lengths) {
  SeriesTable table;
  table.frequency = {.step_ns = kHour, .months = 0};
  const int64_t begin = read_date(DateForm::iso, "2020-01-01")->ns;
  for (size_t s = 0; s < lengths.size(); ++s) {
    Series& series = table.series.emplace_back();
    series.id = fmt::format("{}", s);
    for (int64_t t = 0; t < lengths[s]; ++t) series.time.push_back(begin + (static_cast<int64_t>(s) * 24 + t) * kHour);
  }
  return table;
}

using Ranges = std::vector<SplitRange>;

std::map<std::string, Ranges> split(const std::string& rule, const std::vector<int64_t>& lengths) {
  SeriesTable table = table_of(lengths);
  split_series(rule, table);
  return table.splits;
}

std::string refused(ErrorKind kind, const std::string& rule, const std::vector<int64_t>& lengths = {100}) {
  return error_of(kind, [&] { split(rule, lengths); });
}

TEST(SeriesSplit, FractionsAsTheBenchmarksCutThem) {
  // Published borders: weather, exchange, ILI.
  for (const auto& [n, train, valid, test] :
       {std::array<int64_t, 4>{52'696, 36'887, 5'270, 10'539}, {7'588, 5'311, 760, 1'517}, {966, 676, 97, 193}}) {
    const auto splits = split("0.7/0.1/0.2", {n});
    EXPECT_EQ(splits.at("train"), (Ranges{{0, 0, train}}));
    EXPECT_EQ(splits.at("valid"), (Ranges{{0, train, train + valid}}));
    EXPECT_EQ(splits.at("test"), (Ranges{{0, train + valid, n}}));
    EXPECT_EQ(n, train + valid + test);
  }
}

TEST(SeriesSplit, FractionsCoverEveryRowOnce) {
  for (int64_t n = 10; n < 400; ++n) {
    const auto splits = split("0.7/0.1/0.2", {n});
    EXPECT_EQ(splits.at("train")[0], (SplitRange{0, 0, 7 * n / 10}));
    EXPECT_EQ(splits.at("test")[0], (SplitRange{0, n - 2 * n / 10, n}));
    EXPECT_EQ(splits.at("valid")[0], (SplitRange{0, 7 * n / 10, n - 2 * n / 10}));
  }
  const auto two = split("0.8/0.2", {11, 21});
  EXPECT_EQ(two.at("train"), (Ranges{{0, 0, 8}, {1, 0, 16}}));
  EXPECT_EQ(two.at("valid"), (Ranges{{0, 8, 11}, {1, 16, 21}}));
  EXPECT_FALSE(two.contains("test"));
  EXPECT_EQ(split("1", {5}).at("train"), (Ranges{{0, 0, 5}}));
  EXPECT_EQ(split("1", {5}).size(), 1U);
  const auto no_valid = split("0.8/0/0.2", {11});
  EXPECT_EQ(no_valid.at("test"), (Ranges{{0, 8, 11}}));
  EXPECT_FALSE(no_valid.contains("valid"));
}

TEST(SeriesSplit, EttMonthsHaveThirtyDays) {
  const auto hours = split("ett-hour", {17'420});
  EXPECT_EQ(hours.at("train"), (Ranges{{0, 0, 8'640}}));
  EXPECT_EQ(hours.at("valid"), (Ranges{{0, 8'640, 11'520}}));
  EXPECT_EQ(hours.at("test"), (Ranges{{0, 11'520, 14'400}}));
  SeriesTable quarters = table_of({69'680});
  quarters.frequency.step_ns = kHour / 4;
  split_series("ett-minute", quarters);
  EXPECT_EQ(quarters.splits.at("test"), (Ranges{{0, 46'080, 57'600}}));
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { split_series("ett-hour", quarters); }),
                  "for rows every 1h, and these are every 15min");
  EXPECT_CONTAINS(refused(ErrorKind::data, "ett-hour", {14'399}), "series '0' has 14,399 rows, and 14,400 are needed");
}

TEST(SeriesSplit, Dates) {
  // Series 1 begins on 2 January and has nothing before it.
  const auto splits = split("dates:2020-01-02/2020-01-02T12:00", {48, 24});
  EXPECT_EQ(splits.at("train"), (Ranges{{0, 0, 24}}));
  EXPECT_EQ(splits.at("valid"), (Ranges{{0, 24, 36}, {1, 0, 12}}));
  EXPECT_EQ(splits.at("test"), (Ranges{{0, 36, 48}, {1, 12, 24}}));
  EXPECT_EQ(split("dates:2020-01-02/2020-01-02T12:00/2020-01-02T13:00", {48}).at("test"), (Ranges{{0, 36, 37}}));
  EXPECT_EQ(split("dates:2020-01-02T02:00+02:00/2020-01-02T12:00", {48}).at("train"), (Ranges{{0, 0, 24}}));
  EXPECT_CONTAINS(refused(ErrorKind::data, "dates:2021-01-01/2021-02-01"),
                  "split 'valid' has no row; the longest series has 100");
  EXPECT_CONTAINS(refused(ErrorKind::data, "dates:2019-01-01/2020-01-02"), "split 'train' has no row");
  EXPECT_CONTAINS(refused(ErrorKind::usage, "dates:2020-01-02"), "two or three dates");
  EXPECT_CONTAINS(refused(ErrorKind::usage, "dates:2020-01-02/01.02.2020"), "'01.02.2020' is no date");
  EXPECT_CONTAINS(refused(ErrorKind::usage, "dates:2020-01-03/2020-01-02"), "each date has to be after the one before");
}

TEST(SeriesSplit, Rows) {
  const auto splits = split("rows:50/20/10", {100, 80});
  EXPECT_EQ(splits.at("test"), (Ranges{{0, 70, 80}, {1, 70, 80}}));
  EXPECT_EQ(split("rows:7", {100}).at("train"), (Ranges{{0, 0, 7}}));
  EXPECT_FALSE(split("rows:7/0/3", {100}).contains("valid"));
  EXPECT_CONTAINS(refused(ErrorKind::data, "rows:50/20/31"), "series '0' has 100 rows, and 101 are needed");
  for (const char* bad :
       {"rows:", "rows:1/2/3/4", "rows:-1/2", "rows:a", "rows:0/0", "rows:1.5", "rows:99999999999999999999"}) {
    EXPECT_CONTAINS(refused(ErrorKind::usage, bad), "rows:8640/2880/2880") << bad;
  }
}

TEST(SeriesSplit, WhatIsRefused) {
  EXPECT_CONTAINS(refused(ErrorKind::usage, "half"), "no such rule; write fractions (0.7/0.1/0.2), ett-hour");
  refused(ErrorKind::usage, "");
  EXPECT_CONTAINS(refused(ErrorKind::usage, "0.7/0.1"), "do not add up to 1");
  EXPECT_CONTAINS(refused(ErrorKind::data, "0.7/0.1/0.2", {3}), "series '0' has 3 rows, and 10 are needed");
  EXPECT_CONTAINS(refused(ErrorKind::data, "0.7/0.1/0.2", {100, 2}), "series '1' has 2 rows");
}

}  // namespace
}  // namespace farsight
