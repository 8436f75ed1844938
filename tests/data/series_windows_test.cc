// SPDX-License-Identifier: Apache-2.0
// Windows of time series against a plain loop over the tables they were written from.
#include "data/series_windows.h"

#include <bit>
#include <cmath>
#include <ctime>
#include <random>

#include "data/probe.h"
#include "tests/data/scratch.h"
#include "tests/data/series_sample.h"

namespace farsight {
namespace {

constexpr Frequency kHourly{.step_ns = 3'600'000'000'000, .months = 0};
constexpr CalendarFeature kFeatures[] = {CalendarFeature::hour, CalendarFeature::weekday, CalendarFeature::day,
                                         CalendarFeature::yearday, CalendarFeature::minute};

// The same by the C library.
float feature_of(CalendarFeature feature, int64_t time_ns) {
  int64_t second = time_ns / 1'000'000'000;
  if (second * 1'000'000'000 > time_ns) --second;
  const auto seconds = static_cast<time_t>(second);
  tm date{};
  gmtime_r(&seconds, &date);
  switch (feature) {
    case CalendarFeature::hour:
      return static_cast<float>(date.tm_hour / 23.0 - 0.5);
    case CalendarFeature::weekday:
      return static_cast<float>((date.tm_wday + 6) % 7 / 6.0 - 0.5);
    case CalendarFeature::day:
      return static_cast<float>((date.tm_mday - 1) / 30.0 - 0.5);
    case CalendarFeature::yearday:
      return static_cast<float>(date.tm_yday / 365.0 - 0.5);
    case CalendarFeature::minute:
      break;
  }
  return static_cast<float>(date.tm_min / 59.0 - 0.5);
}

TEST(Calendar, FeaturesAreThoseOfTheFormulas) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    const auto time = static_cast<int64_t>(random()) / 2;
    for (const CalendarFeature feature : kFeatures) {
      EXPECT_EQ(calendar_value(feature, time), feature_of(feature, time)) << to_string(feature) << " of " << time;
    }
  }
  const int64_t end_of_leap_year = 1'483'228'799'999'999'999;  // 2016-12-31T23:59:59.999999999, a Saturday
  const float expected[] = {0.5F, static_cast<float>(5.0 / 6 - 0.5), 0.5F, 0.5F, 0.5F};
  for (size_t f = 0; f < 5; ++f) EXPECT_EQ(calendar_value(kFeatures[f], end_of_leap_year), expected[f]) << f;
  for (const CalendarFeature feature : kFeatures) EXPECT_EQ(calendar_feature(to_string(feature)), feature);
  EXPECT_CONTAINS(error_of(ErrorKind::config, [] { calendar_feature("moon"); }), "use hour, weekday");
}

// Windows in order, as (table, series of the table, t0).
struct Place {
  size_t table;
  const Series* series;
  int64_t t0;
};

// Reads the splits in the order of the file: series by the names of their links.
std::vector<Place> all_windows(const std::vector<SeriesTable>& tables, SeriesFiles& files, const WindowOptions& o) {
  std::vector<Place> windows;
  for (size_t i = 0; i < tables.size(); ++i) {
    for (const SplitRange& range : tables[i].splits.at(o.split)) {
      const Series& series = tables[i].series[static_cast<size_t>(range.series)];
      int64_t next = std::max(range.begin, o.lookback);
      for (int64_t t0 = 0; t0 + o.horizon <= range.end; ++t0) {
        if (t0 != next) continue;
        windows.push_back({i, &series, t0});
        next += o.stride;
      }
    }
  }
  EXPECT_GE(files.series_count(), 1);
  return windows;
}

class WindowCheck {
 public:
  WindowCheck(const std::vector<SeriesTable>& tables, const SeriesWindows& windows, const Place& place)
      : channels_(tables[0].channels), options_(windows.options()), windows_(windows), place_(place) {}

  // Row j of the batch.
  void run(const MicroBatch& batch, int64_t j) {
    const auto count = static_cast<int64_t>(channels_.size()), l = options_.lookback, h = options_.horizon;
    const WindowTensors& w = batch.windows;
    for (int64_t c = 0; c < count; ++c) {
      const bool target = windows_.is_target(c);
      const bool known = channels_[static_cast<size_t>(c)].role == ChannelRole::known_future;
      for (int64_t t = 0; t < l; ++t) {
        const int64_t row = place_.t0 - l + t, at = (j * count + c) * l + t;
        expect_bits(w.past.data<float>()[at], value(row, c));
        if (w.past_observed.defined()) {
          EXPECT_EQ(w.past_observed.data<uint8_t>()[at], seen(row, c));
        }
      }
      for (int64_t t = 0; t < h; ++t) {
        const int64_t row = place_.t0 + t, at = (j * count + c) * h + t;
        expect_bits(w.future.data<float>()[at], target || known ? value(row, c) : 0.0F);
        EXPECT_EQ(w.future_observed.data<uint8_t>()[at], target ? seen(row, c) : 0);
        targets += target && seen(row, c) != 0 ? 1 : 0;
      }
    }
    for (size_t f = 0; f < options_.calendar.size(); ++f) {
      for (int64_t t = 0; t < l + h; ++t) {
        const auto at =
            static_cast<int64_t>(j * static_cast<int64_t>(options_.calendar.size()) + static_cast<int64_t>(f)) *
                (l + h) +
            t;
        EXPECT_EQ(w.calendar.data<float>()[at],
                  feature_of(options_.calendar[f], place_.series->time[static_cast<size_t>(place_.t0 - l + t)]));
      }
    }
    for (size_t k = 0; k < place_.series->statics.size(); ++k) {
      EXPECT_EQ(
          w.statics.data<float>()[j * static_cast<int64_t>(place_.series->statics.size()) + static_cast<int64_t>(k)],
          place_.series->statics[k]);
    }
  }
  int64_t targets = 0;

 private:
  size_t cell(int64_t row, int64_t c) const {
    return static_cast<size_t>(row) * channels_.size() + static_cast<size_t>(c);
  }
  uint8_t seen(int64_t row, int64_t c) const {
    return place_.series->mask.empty() ? 1 : place_.series->mask[cell(row, c)];
  }
  float value(int64_t row, int64_t c) const {
    if (seen(row, c) == 0) return 0.0F;
    const ChannelScale& s = options_.scale[static_cast<size_t>(c)];
    const double x = place_.series->values[cell(row, c)];
    return static_cast<float>((x - s.mean) * (1.0 / s.scale));
  }
  static void expect_bits(float found, float expected) {
    EXPECT_EQ(std::bit_cast<uint32_t>(found), std::bit_cast<uint32_t>(expected));
  }

  const std::vector<Channel>& channels_;
  const WindowOptions& options_;
  const SeriesWindows& windows_;
  Place place_;
};

TEST(SeriesWindowsTest, EveryWindowOfRandomSplitsIsRight) {
  const Scratch scratch;
  std::mt19937 random(7);
  const auto uniform = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  int64_t checked = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    // One to three files of equal channels.
    std::vector<SeriesTable> tables = {random_table(seed, {.masks = seed % 3 != 0, .frequency = kHourly})};
    const auto channels = static_cast<int64_t>(tables[0].channels.size());
    for (int64_t more = uniform(0, 2); more > 0; --more) {
      SeriesTable other = random_table(seed + 1000 * static_cast<uint64_t>(more),
                                       {.channels = channels, .masks = seed % 3 != 0, .frequency = kHourly});
      other.channels = tables[0].channels;
      other.static_names = tables[0].static_names;
      for (Series& series : other.series) series.statics.assign(other.static_names.size(), static_cast<float>(more));
      tables.push_back(std::move(other));
    }
    std::vector<SeriesDescriptor> described;
    for (size_t i = 0; i < tables.size(); ++i) {
      described.push_back(describe_series(write_table(scratch.path(std::to_string(i) + ".h5"), tables[i])));
    }
    auto files =
        std::make_shared<SeriesFiles>(described, SeriesAccess{.io = seed % 2 == 0 ? DataIo::map : DataIo::pread});
    WindowOptions options{.split = seed % 4 == 0 ? "valid" : "train",
                          .lookback = uniform(1, 24),
                          .horizon = uniform(1, 6),
                          .stride = uniform(1, 5),
                          .scale = pooled_scale(described)};
    if (uniform(0, 1) == 1) options.calendar.assign(std::begin(kFeatures), std::begin(kFeatures) + uniform(1, 5));
    if (uniform(0, 1) == 1) options.targets = {uniform(0, channels - 1)};
    const std::vector<Place> expected = all_windows(tables, *files, options);
    if (expected.empty()) {
      EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { SeriesWindows(files, options); }), "holds no window");
      continue;
    }
    SeriesWindows windows(files, options);
    ASSERT_EQ(windows.samples(), static_cast<int64_t>(expected.size()));
    const MicroBatch batch = windows.make_batch(3);
    for (int64_t sample = 0; sample < windows.samples(); ++sample) {
      const Place& place = expected[static_cast<size_t>(sample)];
      const Window at = windows.window(sample);
      ASSERT_EQ(at.first_target, place.t0);
      ASSERT_EQ(files->id(at.series), place.series->id);
      const int64_t j = sample % 3;
      const int64_t targets = windows.read(sample, j, batch);
      WindowCheck check(tables, windows, place);
      check.run(batch, j);
      EXPECT_EQ(targets, check.targets);
      ++checked;
      if (HasFailure()) return;
    }
    windows.pad(1, batch);
    const auto* observed = batch.windows.future_observed.data<uint8_t>() + channels * options.horizon;
    EXPECT_EQ(std::count(observed, observed + channels * options.horizon, uint8_t{0}), channels * options.horizon);
  }
  EXPECT_GT(checked, 1000);
}

TEST(SeriesWindowsTest, SeveralFilesArePooledAsIfTheirTrainingRowsWereOne) {
  const Scratch scratch;
  std::vector<SeriesDescriptor> described;
  SeriesTable all = random_table(1, {.channels = 3, .frequency = kHourly});
  described.push_back(describe_series(write_table(scratch.path("a.h5"), all)));
  SeriesTable other = random_table(2, {.channels = 3, .frequency = kHourly});
  other.channels = all.channels;
  other.static_names = all.static_names;
  for (Series& series : other.series) series.statics.assign(all.static_names.size(), 0.0F);
  described.push_back(describe_series(write_table(scratch.path("b.h5"), other)));
  const auto first = static_cast<int64_t>(all.series.size());
  for (Series& series : other.series) {
    series.id += " of b";
    all.series.push_back(series);
  }
  for (SplitRange range : other.splits.at("train")) {
    range.series += first;
    all.splits.at("train").push_back(range);
  }
  const SeriesDescriptor together = describe_series(write_table(scratch.path("all.h5"), all));
  const auto pooled = pooled_scale(described), expected = pooled_scale({together});
  for (size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(pooled[c].mean, expected[c].mean, 1e-12);
    EXPECT_NEAR(pooled[c].scale, expected[c].scale, 1e-12);
  }
}

}  // namespace
}  // namespace farsight
