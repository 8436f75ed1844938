// SPDX-License-Identifier: Apache-2.0
// Numbers that any implementation of the protocol must give: forecasting specification, sections 2 and 3.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/data/scratch.h"
#include "tests/forecast/golden_data.h"
#include "tests/forecast/synthetic_series.h"

namespace farsight {
namespace {

class Synthetic : public ::testing::Test {
 protected:
  Scratch scratch_;
  std::string path_ = write_synthetic(scratch_.path("s.h5"));
};

TEST_F(Synthetic, ValuesAndStatistics) {
  constexpr double kFirst[] = {9.83816660127, 22.88308942320, 32.34635191819};
  constexpr double kMean[] = {10.8743576412, 21.7355672915, 32.6070791940};
  constexpr double kStd[] = {2.6112637291, 2.7511992411, 2.9740403705};
  const SeriesDescriptor file = describe_series(path_);
  for (int64_t c = 0; c < kSyntheticChannels; ++c) {
    const ChannelStatistics& s = file.statistics[static_cast<size_t>(c)];
    EXPECT_NEAR(synthetic_value(0, c) / kFirst[c], 1.0, 1e-9);
    double mean = 0.0, squares = 0.0;
    for (int64_t t = 0; t < 8640; ++t) mean += synthetic_value(t, c) / 8640.0;
    for (int64_t t = 0; t < 8640; ++t) squares += std::pow(synthetic_value(t, c) - mean, 2) / 8640.0;
    EXPECT_NEAR(mean / kMean[c], 1.0, 1e-9);
    EXPECT_NEAR(std::sqrt(squares) / kStd[c], 1.0, 1e-9);
    // Of the stored values: rounding them to f32 moves the standard deviation by up to 4e-9 of it.
    EXPECT_NEAR(s.mean / kMean[c], 1.0, 1e-9);
    EXPECT_NEAR(s.std / kStd[c], 1.0, 5e-9);
    EXPECT_EQ(s.count, 8640);
  }
}

TEST_F(Synthetic, EveryCellOfTheTable) {
  struct Row {
    int64_t lookback, horizon, season;
    GoldenCell repeat, seasonal, mean, linear;
  };
  constexpr Row kRows[] = {
      {96, 24, 24, {1.267105, .924176}, {.218553, .409329}, {1.107893, .855565}, {.012474, .094218}},
      {96, 96, 24, {1.785679, 1.087077}, {.726976, .733754}, {1.076978, .845813}, {.012355, .094039}},
      {336, 96, 168, {1.785679, 1.087077}, {.022393, .121640}, {.861229, .773303}, {.011222, .091009}}};
  for (const Row& row : kRows) {
    const Data data(path_, row.lookback, row.horizon);
    const std::string what = "L " + std::to_string(row.lookback) + " H " + std::to_string(row.horizon);
    expect_cell(evaluate(data, Baseline::repeat_last, row.season), row.repeat, kExact, what + " repeat_last");
    expect_cell(evaluate(data, Baseline::seasonal_naive, row.season), row.seasonal, kExact, what + " seasonal");
    expect_cell(evaluate(data, Baseline::window_mean, row.season), row.mean, kExact, what + " mean");
    expect_cell(evaluate(data, Baseline::linear, row.season), row.linear, kSolved, what + " linear");
  }
}

TEST(WindowCounts, FollowTheProtocol) {
  const Scratch scratch;
  struct Case {
    std::string name;
    int64_t rows, train, valid, test, lookback, horizon;
    int64_t windows[3];
  };
  // ETT hours, ETT quarters of an hour, weather, exchange, ILI.
  const std::vector<Case> cases = {{"h", 14400, 8640, 2880, 2880, 96, 96, {8449, 2785, 2785}},
                                   {"h", 14400, 8640, 2880, 2880, 336, 96, {8209, 2785, 2785}},
                                   {"m", 57600, 34560, 11520, 11520, 96, 96, {34369, 11425, 11425}},
                                   {"w", 52696, 36887, 5270, 10539, 336, 96, {36456, 5175, 10444}},
                                   {"e", 7588, 5311, 760, 1517, 96, 720, {4496, 41, 798}},
                                   {"i", 966, 676, 97, 193, 104, 24, {549, 74, 170}}};
  for (const Case& c : cases) {
    SeriesTable table;
    table.channels = {{.name = "x", .unit = ""}};
    table.frequency = {.step_ns = 1, .months = 0};
    Series series;
    series.id = "0";
    for (int64_t t = 0; t < c.rows; ++t) {
      series.time.push_back(t);
      series.values.push_back(static_cast<float>(t % 17));
    }
    table.series.push_back(std::move(series));
    table.splits = {{"train", {{0, 0, c.train}}},
                    {"valid", {{0, c.train, c.train + c.valid}}},
                    {"test", {{0, c.rows - c.test, c.rows}}}};
    const std::string path = write_synthetic(scratch.path(c.name + ".h5"), table);
    const char* splits[] = {"train", "valid", "test"};
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(Data(path, c.lookback, c.horizon, splits[i]).windows->samples(), c.windows[i]) << c.name << splits[i];
    }
  }
}

}  // namespace
}  // namespace farsight
