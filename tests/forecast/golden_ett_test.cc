// SPDX-License-Identifier: Apache-2.0
// The hourly ETT benchmark from its CSV files (FARSIGHT_DATA, read only): forecasting specification, sections 2 and 3.
#include <string>
#include <vector>

#include "data/series_csv.h"
#include "data/series_split.h"
#include "tests/data/scratch.h"
#include "tests/forecast/golden_data.h"
#include "tests/forecast/synthetic_series.h"

namespace farsight {
namespace {

constexpr int64_t kHorizons[] = {96, 192, 336, 720};
constexpr int64_t kDay = 24;
constexpr size_t kTrainRows = 8640, kChannels = 7;

struct Ett {
  const char* name;
  std::vector<double> mean, std;  // empty: not published
  struct Row {
    GoldenCell repeat, seasonal, mean, linear, linear_336;
  } rows[4];  // of kHorizons
};

Ett etth1() {
  return {
      .name = "ETTh1",
      .mean = {7.9377, 2.0210, 5.0798, .7462, 2.7818, .7885, 17.1283},
      .std = {5.8127, 2.0901, 5.5188, 1.9264, 1.0235, .6302, 9.1765},
      .rows = {{{1.294371, .713181}, {.512225, .433303}, {.700839, .558088}, {.383270, .391696}, {.370199, .391506}},
               {{1.324880, .733101}, {.580781, .469160}, {.718324, .570475}, {.434141, .421194}, {.403448, .411171}},
               {{1.329927, .745972}, {.649914, .500762}, {.722939, .580888}, {.475582, .442576}, {.427685, .426163}},
               {{1.335121, .755045}, {.655405, .514122}, {.711641, .595262}, {.469748, .461511}, {.434362, .450457}}}};
}

Ett etth2() {
  return {
      .name = "ETTh2",
      .mean = {},
      .std = {},
      .rows = {{{.431657, .421621}, {.390518, .380203}, {.352984, .387216}, {.288994, .337805}, {.272561, .335158}},
               {{.533722, .472538}, {.481861, .428544}, {.427542, .429115}, {.374297, .390046}, {.334333, .376170}},
               {{.597277, .510865}, {.532354, .465584}, {.454495, .454569}, {.413342, .425461}, {.358789, .400366}},
               {{.594472, .518991}, {.525465, .473918}, {.450991, .460395}, {.418914, .441581}, {.393038, .434639}}}};
}

class EttTest : public ::testing::TestWithParam<Ett> {
 protected:
  void SetUp() override {
    FARSIGHT_NEEDS_REAL_DATA(csv());
    SeriesCsvOptions options;
    options.inputs = {real_data(csv())};
    table_ = read_series_csv(options).table;
    split_series("ett-hour", table_);
    path_ = write_synthetic(scratch_.path("ett.h5"), table_);
  }
  std::string csv() const { return std::string("ts/") + GetParam().name + ".csv"; }

  Scratch scratch_;
  SeriesTable table_;
  std::string path_;
};

// By another route than the reader of tables: std::stof on the cells of each line.
TEST_P(EttTest, StoredRowsAreThoseOfTheTableAndTheScalerIsThePublishedOne) {
  const SeriesDescriptor file = describe_series(path_);
  SeriesFiles files({file}, {});
  std::ifstream csv_file(real_data(csv()));
  std::string line, cell;
  std::getline(csv_file, line);
  int64_t row = 0;
  for (; std::getline(csv_file, line); ++row) {
    std::istringstream cells(line);
    std::getline(cells, cell, ',');
    const float* values = files.values(0, row, 1);
    for (int64_t c = 0; c < 7; ++c) {
      std::getline(cells, cell, ',');
      ASSERT_EQ(values[c], std::stof(cell)) << "row " << row << " channel " << c;
    }
  }
  EXPECT_EQ(row, 17420);
  EXPECT_EQ(files.rows(0), 17420);
  for (size_t c = 0; c < GetParam().mean.size(); ++c) {
    EXPECT_NEAR(file.statistics[c].mean, GetParam().mean[c], 5e-5) << c;
    EXPECT_NEAR(file.statistics[c].std, GetParam().std[c], 5e-5) << c;
    EXPECT_EQ(file.statistics[c].count, 8640);
  }
}

TEST_P(EttTest, WindowCounts) {
  struct Case {
    int64_t lookback;
    const char* split;
    int64_t windows;
  };
  for (const auto& [lookback, split, windows] :
       {Case{96, "train", 8449}, Case{96, "valid", 2785}, Case{96, "test", 2785}, Case{336, "train", 8209},
        Case{336, "valid", 2785}, Case{336, "test", 2785}}) {
    EXPECT_EQ(Data(path_, lookback, 96, split).windows->samples(), windows) << lookback << split;
  }
}

// Rows that are no training rows may say anything: the scaler must not see them.
TEST_P(EttTest, RowsAfterTrainingDoNotMoveTheScaler) {
  SeriesTable changed = table_;
  for (size_t i = kTrainRows * kChannels; i < changed.series[0].values.size(); ++i) changed.series[0].values[i] = 1e6F;
  const SeriesDescriptor file = describe_series(write_synthetic(scratch_.path("changed.h5"), changed));
  EXPECT_EQ(file.statistics, describe_series(path_).statistics);
  changed.series[0].values[(kTrainRows - 1) * kChannels] += 1.0F;  // the last training row does
  const SeriesDescriptor moved = describe_series(write_synthetic(scratch_.path("changed.h5"), changed));
  EXPECT_NE(moved.statistics, describe_series(path_).statistics);
}

TEST_P(EttTest, EveryCellOfTheTable) {
  for (size_t i = 0; i < std::size(kHorizons); ++i) {
    const Ett::Row& row = GetParam().rows[i];
    const std::string what = std::string(GetParam().name) + " H " + std::to_string(kHorizons[i]);
    const Data data(path_, 96, kHorizons[i]);
    const auto self = make_self_communicator();
    const auto results =
        evaluate_baselines(*data.train, *data.windows,
                           {.baselines = {std::begin(kAllBaselines), std::end(kAllBaselines)}, .season = kDay}, *self);
    const GoldenCell* cells[] = {&row.repeat, &row.seasonal, &row.mean, &row.linear};
    for (size_t b = 0; b < results.size(); ++b) {
      expect_cell(results[b].metrics.total(), *cells[b], b == 3 ? kSolved : kExact,
                  what + " L 96 " + to_string(results[b].baseline));
      EXPECT_EQ(results[b].metrics.windows(), 2881 - kHorizons[i]);
    }
    const Data longer(path_, 336, kHorizons[i]);
    expect_cell(evaluate(longer, Baseline::linear, kDay), row.linear_336, kSolved, what + " L 336 linear");
  }
}

// Old tables were made without the windows after the last full batch.
TEST_P(EttTest, DroppedBatches) {
  struct Case {
    const char* name;
    int64_t horizon, drop_last, windows;
    GoldenCell cell;
  };
  const Case cases[] = {{"ETTh1", 336, 32, 2528, {1.323341, .744309}},  {"ETTh1", 336, 128, 2432, {1.291457, .736011}},
                        {"ETTh1", 336, 0, 2545, {1.329927, .745972}},   {"ETTh1", 720, 32, 2144, {1.338556, .755935}},
                        {"ETTh1", 720, 128, 2048, {1.352926, .758370}}, {"ETTh1", 720, 0, 2161, {1.335121, .755045}},
                        {"ETTh2", 336, 32, 2528, {.591188, .508455}},   {"ETTh2", 336, 128, 2432, {.556085, .491998}},
                        {"ETTh2", 336, 0, 2545, {.597277, .510865}}};
  for (const Case& c : cases) {
    if (std::string(c.name) != GetParam().name) continue;
    const Data data(path_, 336, c.horizon);
    EXPECT_EQ(evaluated_windows(data.windows->samples(), c.drop_last), c.windows);
    expect_cell(evaluate(data, Baseline::repeat_last, kDay, c.drop_last), c.cell, kExact,
                std::to_string(c.horizon) + " drop_last " + std::to_string(c.drop_last));
  }
}

INSTANTIATE_TEST_SUITE_P(Hourly, EttTest, ::testing::Values(etth1(), etth2()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace farsight
