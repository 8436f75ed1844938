// SPDX-License-Identifier: Apache-2.0
// Forecasts of the real future: what goes in is judged, and what comes out goes on where the data end, in their units.
#include "trainer/forecast/future.h"

#include <charconv>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/csv_reader.h"
#include "data/date_time.h"
#include "kernels/error.h"
#include "tests/data/scratch.h"
#include "tests/forecast/forecast_case.h"
#include "tests/forecast/synthetic_series.h"
#include "trainer/forecast/evaluation.h"

namespace farsight {
namespace {

constexpr int64_t kLookback = 48, kHorizon = 12, kSeason = 5;  // of the baselines' test: shorter than the horizon
constexpr int64_t kHour = 3'600'000'000'000;

TrainedForecaster forecaster(std::vector<std::string> overrides = {}) {
  TrainedForecaster trained = untrained_forecaster(forecast_config(short_series(), std::move(overrides)));
  shake(*trained.model, 0.3);
  return trained;
}

// The last rows of a table.
SeriesTable last_rows(SeriesTable table, int64_t rows) {
  for (Series& series : table.series) {
    const auto drop = static_cast<std::ptrdiff_t>(series.rows() - rows);
    const auto channels = static_cast<std::ptrdiff_t>(table.channels.size());
    series.time.erase(series.time.begin(), series.time.begin() + drop);
    series.values.erase(series.values.begin(), series.values.begin() + drop * channels);
    if (!series.mask.empty()) series.mask.erase(series.mask.begin(), series.mask.begin() + drop * channels);
  }
  return table;
}

SeriesTable recent_rows(int64_t rows = 80) { return last_rows(synthetic_table(320), rows); }

// With the columns in another order; -1: a new one, named "extra".
SeriesTable with_columns(const SeriesTable& table, const std::vector<int>& columns) {
  SeriesTable out = table;
  out.channels.clear();
  for (const int c : columns) {
    out.channels.push_back(c < 0 ? Channel{.name = "extra", .unit = ""} : table.channels[static_cast<size_t>(c)]);
  }
  for (size_t s = 0; s < table.series.size(); ++s) {
    out.series[s].values.clear();
    for (size_t t = 0; t < table.series[s].time.size(); ++t) {
      for (const int c : columns) {
        out.series[s].values.push_back(
            c < 0 ? 1e6F : table.series[s].values[t * table.channels.size() + static_cast<size_t>(c)]);
      }
    }
  }
  return out;
}

double value_of(const SeriesTable& table, int64_t row, int64_t channel) {
  const Series& series = table.series.front();
  const auto channels = static_cast<int64_t>(table.channels.size());
  return static_cast<double>(series.values[static_cast<size_t>(row * channels + channel)]);
}

void expect_equal(const FutureForecast& found, const FutureForecast& expected) {
  ASSERT_EQ(found.channels.size(), expected.channels.size());
  EXPECT_EQ(found.time, expected.time);
  for (size_t c = 0; c < expected.channels.size(); ++c) {
    EXPECT_EQ(found.channels[c].channel, expected.channels[c].channel);
    EXPECT_EQ(found.channels[c].mean, expected.channels[c].mean);
    EXPECT_EQ(found.channels[c].quantiles, expected.channels[c].quantiles);
    EXPECT_EQ(found.channels[c].seasonal_naive, expected.channels[c].seasonal_naive);
  }
}

TEST(Future, ContinuesTheRowsInTheirUnits) {
  TrainedForecaster trained = forecaster({"loss.kind=gaussian"});
  const SeriesTable table = recent_rows();
  const FutureForecast future = forecast_future(trained, table, 0, {});
  EXPECT_TRUE(future.warnings.empty());
  ASSERT_EQ(future.channels.size(), 3U);
  const int64_t last = table.series[0].time.back();
  EXPECT_EQ(future.cutoff, (std::vector<int64_t>{last}));
  for (int64_t h = 0; h < kHorizon; ++h) {
    EXPECT_EQ(future.time[0][static_cast<size_t>(h)], last + (h + 1) * kHour);
  }
  EXPECT_EQ(future.recent_time[0].size(), static_cast<size_t>(kLookback));
  EXPECT_EQ(future.recent_time[0].back(), last);

  // The same look-back by hand: z by the scale of the run, the model, and back.
  MicroBatch batch;
  batch.sample_ids = {0};
  batch.windows.past = Tensor::empty({1, 3, kLookback}, DType::f32, MemoryTag::data, Device::cpu);
  for (int64_t c = 0; c < 3; ++c) {
    const ChannelScale& scale = trained.facts.scale[static_cast<size_t>(c)];
    for (int64_t t = 0; t < kLookback; ++t) {
      batch.windows.past.data<float>()[c * kLookback + t] =
          static_cast<float>((value_of(table, 80 - kLookback + t, c) - scale.mean) / scale.scale);
    }
  }
  ForecastValues z;
  WindowForecaster(*trained.model, kHorizon).run(batch, [&](int64_t, const ForecastValues& v) { z = v; });
  const size_t levels = future.levels.size();
  EXPECT_EQ(levels, 11U);
  for (size_t c = 0; c < 3; ++c) {
    const ChannelScale& scale = trained.facts.scale[c];
    EXPECT_EQ(future.channels[c].unit, "kW");
    EXPECT_EQ(future.channels[c].recent.back(), value_of(table, 79, static_cast<int64_t>(c)));
    for (size_t h = 0; h < kHorizon; ++h) {
      const size_t cell = c * kHorizon + h;
      EXPECT_NEAR(future.channels[c].mean[h], z.point[cell] * scale.scale + scale.mean, 1e-9);
      for (size_t q = 0; q < levels; ++q) {
        const double found = future.channels[c].quantiles[h * levels + q];
        EXPECT_NEAR(found, z.quantiles[cell * levels + q] * scale.scale + scale.mean, 1e-9);
        if (q > 0) {
          EXPECT_GE(found, future.channels[c].quantiles[h * levels + q - 1]);
        }
      }
    }
    // Around the level of the channel: 10, 20 and 30.
    EXPECT_NEAR(future.channels[c].mean[0], 10.0 * static_cast<double>(c + 1), 8.0);
  }
}

TEST(Future, QuantilesAreSorted) {
  TrainedForecaster trained = forecaster({"loss.kind=quantile", "loss.levels=[0.1, 0.5, 0.9]"});
  for (const int64_t horizon : {kHorizon, 3 * kHorizon}) {
    FutureOptions options;
    options.horizon = horizon;
    const FutureForecast future = forecast_future(trained, recent_rows(), 0, options);
    for (const ChannelForecast& c : future.channels) {
      ASSERT_EQ(c.quantiles.size(), static_cast<size_t>(3 * horizon));
      for (size_t h = 0; h < static_cast<size_t>(horizon); ++h) {
        EXPECT_LE(c.quantiles[3 * h], c.quantiles[3 * h + 1]);
        EXPECT_LE(c.quantiles[3 * h + 1], c.quantiles[3 * h + 2]);
      }
    }
  }
}

TEST(Future, BaselinesAreTheirDefinitions) {
  TrainedForecaster trained = forecaster({"model.kind=linear", "eval.season=5"});
  LinearSolution linear{kLookback, kHorizon, {}};
  for (int64_t i = 0; i < (kLookback + 1) * kHorizon; ++i) {
    linear.weights.push_back(std::sin(static_cast<double>(i)) / 10.0);
  }
  FutureOptions options;
  options.linear = &linear;
  const SeriesTable table = recent_rows();
  const FutureForecast future = forecast_future(trained, table, 0, options);
  for (int64_t c = 0; c < 3; ++c) {
    const ChannelForecast& found = future.channels[static_cast<size_t>(c)];
    const ChannelScale& scale = trained.facts.scale[static_cast<size_t>(c)];
    const double last = value_of(table, 79, c);
    for (int64_t h = 0; h < kHorizon; ++h) {
      const auto i = static_cast<size_t>(h);
      EXPECT_NEAR(found.repeat_last[i], last, 1e-9);
      EXPECT_NEAR(found.seasonal_naive[i], value_of(table, 80 - kSeason + h % kSeason, c), 1e-9);
      // In z units the offset falls out of the differences; only the constant row is scaled.
      double y = last + linear.weights[static_cast<size_t>(kLookback * kHorizon + h)] * scale.scale;
      for (int64_t t = 0; t < kLookback; ++t) {
        y += linear.weights[static_cast<size_t>(t * kHorizon + h)] * (value_of(table, 80 - kLookback + t, c) - last);
      }
      EXPECT_NEAR(found.linear[i], y, 1e-9);
    }
  }
  // Fewer rows than a season: no such baseline, but a forecast.
  TrainedForecaster yearly = forecaster({"model.kind=linear", "eval.season=100"});
  const FutureForecast few = forecast_future(yearly, table, 0, {});
  EXPECT_TRUE(few.channels[0].seasonal_naive.empty());
  EXPECT_TRUE(few.channels[0].linear.empty());
  EXPECT_EQ(few.channels[0].mean, future.channels[0].mean);
}

TEST(Future, ColumnsMayComeInAnyOrder) {
  TrainedForecaster trained = forecaster({"loss.kind=gaussian", "model.instance_affine=true"});
  const SeriesTable table = recent_rows();
  const FutureForecast expected = forecast_future(trained, table, 0, {});
  expect_equal(forecast_future(trained, with_columns(table, {2, 0, 1}), 0, {}), expected);
  const FutureForecast more = forecast_future(trained, with_columns(table, {1, -1, 2, 0}), 0, {});
  expect_equal(more, expected);
  ASSERT_EQ(more.warnings.size(), 1U);
  EXPECT_NE(more.warnings[0].find("'extra'"), std::string::npos) << more.warnings[0];
  const std::string said = error_of(ErrorKind::data, [&] {
    forecast_future(trained, with_columns(table, {2, -1, 0}), 0, {});
  });
  EXPECT_NE(said.find("lacks the channels b "), std::string::npos) << said;
  EXPECT_NE(said.find("has: c, extra, a"), std::string::npos) << said;
}

// A covariate that the model does not look at may be missing.
TEST(Future, OnlyTargetsAreNeeded) {
  TrainedForecaster trained = forecaster({"data.targets=[\"c\", \"a\"]", "data.covariates=ignore"});
  const SeriesTable table = recent_rows();
  const FutureForecast expected = forecast_future(trained, table, 0, {});
  ASSERT_EQ(expected.channels.size(), 2U);
  EXPECT_EQ(expected.channels[0].channel, "a");
  EXPECT_EQ(expected.channels[1].channel, "c");
  expect_equal(forecast_future(trained, with_columns(table, {2, 0}), 0, {}), expected);
}

TEST(Future, RefusesWhatItCannotContinue) {
  TrainedForecaster trained = forecaster();
  EXPECT_EQ(forecast_future(trained, recent_rows(kLookback), 0, {}).channels.size(), 3U);
  const std::string few = error_of(ErrorKind::data, [&] { forecast_future(trained, recent_rows(47), 0, {}); });
  EXPECT_NE(few.find("47 observed rows, the model looks back 48"), std::string::npos) << few;
  SeriesTable slow = recent_rows();
  slow.frequency = {.step_ns = 24 * kHour, .months = 0};
  const std::string other = error_of(ErrorKind::data, [&] { forecast_future(trained, slow, 0, {}); });
  EXPECT_NE(other.find("a row every 1d"), std::string::npos) << other;
  EXPECT_NE(other.find("one every 1h"), std::string::npos) << other;
  SeriesTable two = recent_rows();
  two.series.push_back(last_rows(two, 30).series[0]);
  two.series[1].id = "short";
  const std::string which = error_of(ErrorKind::data, [&] { forecast_future(trained, two, 0, {}); });
  EXPECT_NE(which.find("series 'short': 30 observed rows"), std::string::npos) << which;
}

TEST(Future, OpenRowsAreNoPast) {
  TrainedForecaster trained = forecaster({"loss.kind=gaussian"});
  SeriesTable table = recent_rows();
  const FutureForecast expected = forecast_future(trained, table, 0, {});
  Series& series = table.series[0];
  series.mask.assign(series.values.size(), 1);
  for (int64_t h = 1; h <= 5; ++h) {
    series.time.push_back(series.time.back() + kHour);
    series.values.insert(series.values.end(), 3, std::nanf(""));
    series.mask.insert(series.mask.end(), 3, 0);
  }
  const FutureForecast future = forecast_future(trained, table, 5, {});
  expect_equal(future, expected);
  EXPECT_EQ(future.cutoff, expected.cutoff);
  // Five rows less of the past than it seems.
  const std::string few = error_of(ErrorKind::data, [&] { forecast_future(trained, last_rows(table, 52), 5, {}); });
  EXPECT_NE(few.find("47 observed rows"), std::string::npos) << few;
}

// What was not observed is left out of the instance norm and 0 behind it: no NaN comes out, and its value cannot
// matter.
TEST(Future, UnobservedValuesDoNotMatter) {
  TrainedForecaster trained = forecaster();
  SeriesTable table = recent_rows();
  table.series[0].mask.assign(table.series[0].values.size(), 1);
  for (const size_t cell : {3U * 79U, 3U * 60U + 1U, 3U * 61U + 1U}) {
    table.series[0].mask[cell] = 0;
    table.series[0].values[cell] = std::nanf("");
  }
  const FutureForecast future = forecast_future(trained, table, 0, {});
  for (const ChannelForecast& c : future.channels) {
    for (const double y : c.mean) EXPECT_TRUE(std::isfinite(y)) << c.channel;
  }
  EXPECT_NEAR(future.channels[0].repeat_last[0], value_of(table, 78, 0), 1e-9);
  EXPECT_TRUE(std::isnan(future.channels[0].recent.back()));
  for (const size_t cell : {3U * 79U, 3U * 60U + 1U, 3U * 61U + 1U}) table.series[0].values[cell] = 1e20F;
  expect_equal(forecast_future(trained, table, 0, {}), future);
}

TEST(Future, MonthsGoByTheCalendar) {
  Scratch scratch;
  SeriesTable table = synthetic_table(120);
  table.frequency = {.step_ns = 0, .months = 1};
  const int64_t start = DateFormat::parse("%Y-%m-%d").read("2015-01-31")->ns;
  for (int64_t t = 0; t < 120; ++t)
    table.series[0].time[static_cast<size_t>(t)] = advance(table.frequency, start, t, 31);
  const std::string path = write_synthetic(scratch.path("m.h5"), table);
  TrainedForecaster trained =
      untrained_forecaster(forecast_config(path, {"model.kind=linear", "data.lookback=12", "data.horizon=4"}));
  EXPECT_EQ(trained.facts.season, 12);
  const FutureForecast future = forecast_future(trained, last_rows(table, 24), 0, {});
  EXPECT_EQ(iso_time(future.cutoff[0]), "2024-12-31T00:00:00Z");
  std::vector<std::string> dates;
  for (const int64_t t : future.time[0]) dates.push_back(iso_time(t));
  EXPECT_EQ(dates, (std::vector<std::string>{"2025-01-31T00:00:00Z", "2025-02-28T00:00:00Z", "2025-03-31T00:00:00Z",
                                             "2025-04-30T00:00:00Z"}));
}

TEST(RollOut, OfAPointGoesOnFromItsOwnForecast) {
  for (const char* kind : {"model.kind=linear", "model.norm=layer"}) {
    TrainedForecaster trained = forecaster({kind});
    SeriesTable table = recent_rows();
    const FutureForecast direct = forecast_future(trained, table, 0, {});
    FutureOptions options;
    options.horizon = 2 * kHorizon + 5;
    const FutureForecast longer = forecast_future(trained, table, 0, options);
    ASSERT_EQ(longer.warnings.size(), 1U);
    EXPECT_NE(longer.warnings[0].find("29 rows are more than the 12"), std::string::npos) << longer.warnings[0];
    EXPECT_EQ(longer.time[0].size(), 29U);
    EXPECT_EQ(longer.time[0].back(), longer.cutoff[0] + 29 * kHour);
    // The next block by hand: the forecast becomes observed rows.
    for (int64_t h = 0; h < kHorizon; ++h) {
      table.series[0].time.push_back(table.series[0].time.back() + kHour);
      for (const ChannelForecast& c : direct.channels) {
        table.series[0].values.push_back(static_cast<float>(c.mean[static_cast<size_t>(h)]));
      }
    }
    const FutureForecast next = forecast_future(trained, table, 0, {});
    for (size_t c = 0; c < 3; ++c) {
      for (size_t h = 0; h < kHorizon; ++h) {
        EXPECT_EQ(longer.channels[c].mean[h], direct.channels[c].mean[h]) << kind;
        // But for the rounding of original units to f32.
        EXPECT_NEAR(longer.channels[c].mean[kHorizon + h], next.channels[c].mean[h], 2e-5) << kind;
      }
    }
  }
}

// The first block of sample paths is draws of the model's own distribution.
TEST(RollOut, OfADistributionIsMadeOfPaths) {
  TrainedForecaster trained = forecaster({"loss.kind=gaussian", "model.kind=linear"});
  const FutureForecast direct = forecast_future(trained, recent_rows(), 0, {});
  FutureOptions options;
  options.horizon = 2 * kHorizon;
  options.paths = 1000;
  options.seed = 7;
  const FutureForecast longer = forecast_future(trained, recent_rows(), 0, options);
  EXPECT_NE(longer.warnings.at(0).find("1000 sample paths"), std::string::npos) << longer.warnings[0];
  const size_t levels = longer.levels.size();
  for (size_t c = 0; c < 3; ++c) {
    double spread = 0.0;
    for (size_t h = 0; h < kHorizon; ++h) {
      const auto quantile = [&](const FutureForecast& f, size_t row, size_t q) {
        return f.channels[c].quantiles[row * levels + q];
      };
      const double sigma = (quantile(direct, h, 9) - quantile(direct, h, 1)) / 2.5631;  // 10 to 90 %
      EXPECT_NEAR(longer.channels[c].mean[h], direct.channels[c].mean[h], 0.15 * sigma);
      for (size_t q = 1; q < 10; ++q) EXPECT_NEAR(quantile(longer, h, q), quantile(direct, h, q), 0.2 * sigma);
      spread += (quantile(longer, kHorizon + h, 9) - quantile(longer, kHorizon + h, 1)) / 2.5631 / sigma;
    }
    EXPECT_GT(spread, 0.8 * kHorizon);  // no narrower later on
  }
  options.paths = 20;
  const FutureForecast few = forecast_future(trained, recent_rows(), 0, options);
  expect_equal(forecast_future(trained, recent_rows(), 0, options), few);
  options.seed = 8;
  EXPECT_NE(forecast_future(trained, recent_rows(), 0, options).channels[0].mean, few.channels[0].mean);
}

double number(std::string_view text) {
  float value = 0.0F;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  EXPECT_TRUE(error == std::errc() && end == text.data() + text.size()) << text;
  return static_cast<double>(value);
}

TEST(ToCsv, ReadsBackEqual) {
  TrainedForecaster trained = forecaster({"loss.kind=quantile", "loss.levels=[0.025, 0.5, 0.9]"});
  trained.facts.channels[1].name = "load, \"net\"";
  trained.facts.channels[1].unit = "MW,h";
  SeriesTable table = recent_rows();
  table.channels[1].name = trained.facts.channels[1].name;
  table.series.push_back(table.series[0]);
  table.series[1].id = "north";
  for (float& value : table.series[1].values) value *= 1.25F;
  const FutureForecast future = forecast_future(trained, table, 0, {});
  ASSERT_EQ(future.channels.size(), 6U);
  EXPECT_EQ(future.series_of, (std::vector<size_t>{0, 0, 0, 1, 1, 1}));
  const Scratch scratch;
  CsvReader csv(scratch.write("f.csv", to_csv(future, /*with_units=*/true)), '\0');
  ASSERT_TRUE(csv.next());
  std::vector<std::string> header;
  for (size_t i = 0; i < csv.columns(); ++i) header.emplace_back(csv.cell(i));
  EXPECT_EQ(header, (std::vector<std::string>{"unique_id", "ds", "cutoff", "horizon", "y", "mean", "q0.025", "q0.5",
                                              "q0.9", "repeat_last", "seasonal_naive", "unit"}));
  for (size_t i = 0; i < future.channels.size(); ++i) {
    const ChannelForecast& c = future.channels[i];
    for (size_t h = 0; h < kHorizon; ++h) {
      ASSERT_TRUE(csv.next());
      ASSERT_EQ(csv.columns(), header.size());
      EXPECT_EQ(csv.cell(0), std::string(i < 3 ? "0/" : "north/").append(c.channel));
      EXPECT_EQ(csv.cell(1), iso_time(future.time[i / 3][h]));
      EXPECT_EQ(csv.cell(2), iso_time(future.cutoff[i / 3]));
      EXPECT_EQ(csv.cell(3), std::to_string(h + 1));
      EXPECT_EQ(csv.cell(4), "");
      const std::vector<double> numbers{
          c.mean[h],        c.quantiles[3 * h], c.quantiles[3 * h + 1], c.quantiles[3 * h + 2],
          c.repeat_last[h], c.seasonal_naive[h]};
      for (size_t n = 0; n < numbers.size(); ++n) {
        EXPECT_EQ(number(csv.cell(5 + n)), static_cast<double>(static_cast<float>(numbers[n]))) << header[5 + n];
      }
      EXPECT_EQ(csv.cell(11), i % 3 == 1 ? "MW,h" : "kW");
    }
  }
  EXPECT_FALSE(csv.next());
}

TEST(ToCsv, LeavesOutWhatIsNotThere) {
  TrainedForecaster trained = forecaster({"eval.season=100"});
  const std::string text = to_csv(forecast_future(trained, recent_rows(), 0, {}), /*with_units=*/false);
  EXPECT_EQ(text.substr(0, text.find('\n')), "unique_id,ds,cutoff,horizon,y,mean,repeat_last");
  EXPECT_EQ(text.find("nan"), std::string::npos);
  EXPECT_EQ(text.substr(text.find('\n') + 1, 2), "a,");
}

}  // namespace
}  // namespace farsight
