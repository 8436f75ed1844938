// SPDX-License-Identifier: Apache-2.0
// Evaluation of forecasts on several ranks, of masked data, and where the rules of the metrics matter.
#include <cmath>
#include <random>

#include "parallel/inproc_comm.h"
#include "tests/data/scratch.h"
#include "tests/forecast/golden_data.h"
#include "tests/forecast/synthetic_series.h"

namespace farsight {
namespace {

constexpr int64_t kRows = 900, kLookback = 20, kHorizon = 7, kSeason = 24;

BaselineOptions all_baselines() {
  return {.baselines = {std::begin(kAllBaselines), std::end(kAllBaselines)}, .season = kSeason};
}

// Every number of MetricValues that a baseline has.
std::vector<double> numbers(const MetricValues& m) {
  return {
      m.count, m.mse, m.mae, m.rmse, m.mse_original, m.mae_original, m.rmse_original, m.smape, m.mase.value_or(-1.0)};
}

void expect_close(const MetricValues& found, const MetricValues& expected, const std::string& what) {
  const auto a = numbers(found), b = numbers(expected);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-12 * std::fabs(b[i])) << what << " number " << i;
}

// The synthetic series with holes: single cells, a stretch of rows, a channel that starts late.
SeriesTable with_holes() {
  SeriesTable table = synthetic_table(kRows);
  Series& series = table.series[0];
  series.mask.assign(series.values.size(), 1);
  const auto hide = [&](int64_t t, int64_t c) {
    const auto i = static_cast<size_t>(t * kSyntheticChannels + c);
    series.mask[i] = 0;
    series.values[i] = std::nanf("");
  };
  std::mt19937 random(4);
  for (int i = 0; i < 60; ++i) hide(static_cast<int64_t>(random() % kRows), static_cast<int64_t>(random() % 3));
  for (int64_t t = 800; t < 815; ++t) hide(t, 1);
  for (int64_t t = 0; t < 100; ++t) hide(t, 2);
  return table;
}

TEST(Evaluation, AnyNumberOfRanksGivesTheSameMetrics) {
  const Scratch scratch;
  for (const SeriesTable& table : {synthetic_table(kRows), with_holes()}) {
    const std::string path = write_synthetic(scratch.path("s.h5"), table);
    const Data data(path, kLookback, kHorizon);
    const auto self = make_self_communicator();
    const auto expected = evaluate_baselines(*data.train, *data.windows, all_baselines(), *self);
    EXPECT_EQ(expected[0].metrics.windows(), data.windows->samples());
    for (const int ranks : {1, 2, 3, 4}) {
      run_in_process(ranks, [&](Communicator& world) {
        const Data own(path, kLookback, kHorizon);
        const auto found = evaluate_baselines(*own.train, *own.windows, all_baselines(), world);
        for (size_t b = 0; b < expected.size(); ++b) {
          const std::string what = std::string(to_string(kAllBaselines[b])) + " on " + std::to_string(ranks);
          EXPECT_EQ(found[b].metrics.windows(), data.windows->samples());
          expect_close(found[b].metrics.total(), expected[b].metrics.total(), what);
          expect_close(found[b].metrics.channel(1), expected[b].metrics.channel(1), what + " channel");
          expect_close(found[b].metrics.step(kHorizon - 1), expected[b].metrics.step(kHorizon - 1), what + " step");
        }
      });
    }
  }
}

// Window k of 20 has the error 2^k. 20 powers of two add up to 2^20 - 1 only if every one of them is there once.
TEST(Evaluation, EveryWindowIsCountedOnceOnAnyNumberOfRanks) {
  constexpr int64_t kWindows = 20;
  const Scratch scratch;
  SeriesTable table = synthetic_table(5 * kWindows);
  for (int64_t t = 0; t < 5 * kWindows; ++t) {
    const int64_t k = t - 4 * kWindows;
    const auto value = static_cast<float>(k < 0 ? (t + 1) % 2 : (int64_t{2} << k) - 1);
    for (size_t c = 0; c < 3; ++c) table.series[0].values[static_cast<size_t>(t) * 3 + c] = value;
  }
  const std::string path = write_synthetic(scratch.path("s.h5"), table);
  for (const int64_t drop_last : {0, 6}) {
    const int64_t windows = drop_last == 0 ? kWindows : 18;
    for (const int ranks : {1, 2, 3, 4}) {
      run_in_process(ranks, [&](Communicator& world) {
        const Data data(path, kLookback, 1);
        const auto found =
            evaluate_baselines(*data.train, *data.windows,
                               {.baselines = {Baseline::repeat_last}, .season = 1, .drop_last = drop_last}, world);
        const MetricValues m = found[0].metrics.channel(1);
        EXPECT_EQ(m.count, static_cast<double>(windows));
        EXPECT_NEAR(m.mae_original * m.count, std::exp2(windows) - 1.0, 1e-3) << ranks << " ranks";
      });
    }
  }
}

// Against a direct computation over the table.
TEST(Evaluation, UnobservedTargetsAreInNoCount) {
  const Scratch scratch;
  const SeriesTable table = with_holes();
  const Data data(write_synthetic(scratch.path("s.h5"), table), kLookback, kHorizon);
  const Series& series = table.series[0];
  const SplitRange test = table.splits.at("test")[0];
  for (int64_t c = 0; c < kSyntheticChannels; ++c) {
    const ChannelStatistics& s = data.file.statistics[static_cast<size_t>(c)];
    const auto at = [&](int64_t t) { return static_cast<size_t>(t * kSyntheticChannels + c); };
    double count = 0.0, squares = 0.0;
    for (int64_t t0 = test.begin; t0 + kHorizon <= test.end; ++t0) {
      int64_t last = t0 - 1;  // what was not observed counts as the value before it
      while (series.mask[at(last)] == 0) --last;
      for (int64_t h = 0; h < kHorizon; ++h) {
        if (series.mask[at(t0 + h)] == 0) continue;
        count += 1.0;
        squares += std::pow((static_cast<double>(series.values[at(t0 + h)]) - series.values[at(last)]) / s.std, 2);
      }
    }
    const auto self = make_self_communicator();
    const auto results =
        evaluate_baselines(*data.train, *data.windows, {.baselines = {Baseline::repeat_last}, .season = 1}, *self);
    const MetricValues found = results[0].metrics.channel(c);
    EXPECT_EQ(found.count, count) << "channel " << c;
    EXPECT_NEAR(found.mse, squares / count, 1e-12 * found.mse) << "channel " << c;
  }
}

TEST(Evaluation, RowsAfterTrainingDoNotMoveScalerOrMaseScale) {
  const Scratch scratch;
  SeriesTable table = synthetic_table(kRows);
  const Data before(write_synthetic(scratch.path("a.h5"), table), kLookback, kHorizon);
  const auto end = static_cast<size_t>(table.splits.at("train")[0].end * kSyntheticChannels);
  for (size_t i = end; i < table.series[0].values.size(); ++i) table.series[0].values[i] *= 3.0F;
  const Data after(write_synthetic(scratch.path("b.h5"), table), kLookback, kHorizon);
  EXPECT_EQ(before.windows->options().scale, after.windows->options().scale);
  const std::vector<int64_t> targets = {0, 1, 2};
  EXPECT_EQ(mase_scales(*before.files, targets, kSeason), mase_scales(*after.files, targets, kSeason));
}

}  // namespace
}  // namespace farsight
