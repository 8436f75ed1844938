// SPDX-License-Identifier: Apache-2.0
// Files of time series: what is written comes back bit for bit whatever the storage, and what is damaged is refused by
// the name of the dataset.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/probe.h"
#include "data/series_windows.h"
#include "data/series_writer.h"
#include "data/verify.h"
#include "tests/data/scratch.h"
#include "tests/data/series_sample.h"

namespace farsight {
namespace {

constexpr Frequency kHourly{.step_ns = 3'600'000'000'000, .months = 0}, kMonthly{.step_ns = 0, .months = 1}, kIrregular;

const Series& series_called(const SeriesTable& table, const std::string& id) {
  return *std::find_if(table.series.begin(), table.series.end(), [&](const Series& s) { return s.id == id; });
}

void expect_equal(const SeriesTable& table, const SeriesDescriptor& file, DataIo io) {
  SeriesFiles files({file}, {.io = io, .trust = true});
  const auto channels = static_cast<int64_t>(table.channels.size());
  EXPECT_EQ(files.channels(), table.channels);
  EXPECT_EQ(files.static_names(), table.static_names);
  EXPECT_EQ(files.frequency(), table.frequency);
  ASSERT_EQ(files.series_count(), static_cast<int64_t>(table.series.size()));
  for (int64_t s = 0; s < files.series_count(); ++s) {
    const Series& series = series_called(table, files.id(s));
    ASSERT_EQ(files.rows(s), series.rows());
    EXPECT_TRUE(std::ranges::equal(files.statics(s), series.statics));
    const int64_t half = series.rows() / 2;
    for (const auto& [begin, count] :
         {std::pair{int64_t{0}, series.rows()}, std::pair{half, series.rows() - half}, std::pair{half, int64_t{1}}}) {
      const auto first = static_cast<size_t>(begin * channels), cells = static_cast<size_t>(count * channels);
      EXPECT_EQ(std::memcmp(files.values(s, begin, count), series.values.data() + first, 4 * cells), 0);
      const uint8_t* mask = files.mask(s, begin, count);
      ASSERT_EQ(mask == nullptr, series.mask.empty());
      if (mask != nullptr) {
        EXPECT_EQ(std::memcmp(mask, series.mask.data() + first, cells), 0);
      }
      std::vector<int64_t> times(static_cast<size_t>(count));
      files.times(s, begin, times);
      EXPECT_TRUE(std::equal(times.begin(), times.end(), series.time.begin() + begin));
      EXPECT_EQ(files.time(s, begin), times[0]);
    }
  }
  for (const auto& [name, expected] : table.splits) {
    const auto ranges = files.split(name);
    ASSERT_EQ(ranges.size(), expected.size());
    for (size_t i = 0; i < ranges.size(); ++i) {
      EXPECT_EQ(files.id(ranges[i].series), table.series[static_cast<size_t>(expected[i].series)].id);
      EXPECT_EQ(ranges[i].begin, expected[i].begin);
      EXPECT_EQ(ranges[i].end, expected[i].end);
    }
  }
}

// By sums in long double and by counting ranks.
void expect_statistics(const SeriesTable& table, const SeriesDescriptor& file) {
  for (size_t c = 0; c < table.channels.size(); ++c) {
    std::vector<double> values;
    for (const SplitRange& range : table.splits.at("train")) {
      const Series& series = table.series[static_cast<size_t>(range.series)];
      for (auto t = static_cast<size_t>(range.begin); t < static_cast<size_t>(range.end); ++t) {
        const double value = series.values[t * table.channels.size() + c];
        if (!std::isnan(value)) values.push_back(value);
      }
    }
    const auto n = static_cast<long double>(values.size());
    long double sum = 0, squares = 0;
    for (const double v : values) sum += v;
    for (const double v : values) squares += (v - sum / n) * (v - sum / n);
    const auto quantile = [&](double level) {
      std::vector<double> rest = values;
      const double at = level * static_cast<double>(values.size() - 1);
      std::nth_element(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(at), rest.end());
      const double low = rest[static_cast<size_t>(at)];
      const double next = *std::min_element(rest.begin() + static_cast<ptrdiff_t>(std::ceil(at)), rest.end());
      return low + (at - std::floor(at)) * (next - low);
    };
    const ChannelStatistics& s = file.statistics[c];
    EXPECT_EQ(s.count, static_cast<int64_t>(values.size()));
    EXPECT_NEAR(s.mean, static_cast<double>(sum / n), 1e-12);
    EXPECT_NEAR(s.std, static_cast<double>(std::sqrt(squares / n)), 1e-12);
    EXPECT_EQ(s.min, *std::min_element(values.begin(), values.end()));
    EXPECT_EQ(s.max, *std::max_element(values.begin(), values.end()));
    EXPECT_NEAR(s.median, quantile(.5), 1e-12);
    EXPECT_NEAR(s.iqr, quantile(.75) - quantile(.25), 1e-12);
  }
}

TEST(SeriesFile, RandomTablesComeBack) {
  const Scratch scratch;
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    const Frequency frequency = seed % 3 == 0 ? kHourly : seed % 3 == 1 ? kMonthly : kIrregular;
    const SeriesTable table = random_table(seed, {.frequency = frequency});
    const std::string path = write_table(scratch.path("s.h5"), table, /*compress=*/seed % 4 == 3);
    const SeriesDescriptor file = probe_series(path);
    EXPECT_TRUE(file.sidecar);
    EXPECT_EQ(file.to_bytes(), describe_series(path).to_bytes());
    expect_statistics(table, file);
    for (const DataIo io : {DataIo::map, DataIo::pread}) expect_equal(table, file, io);
    const SeriesReport report = verify_series(path);
    EXPECT_TRUE(report.sidecar);
    EXPECT_TRUE(report.unhashed.empty());
    EXPECT_EQ(report.series, static_cast<int64_t>(table.series.size()));
  }
}

class StorageTest : public testing::TestWithParam<SeriesStorage> {};

TEST_P(StorageTest, EveryStorageGivesTheSameBits) {
  const Scratch scratch;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(seed);
    const SeriesTable table = random_table(seed, {.frequency = kHourly});
    const std::string path = write_table(scratch.path("s.h5"), table);
    change_storage(path, GetParam());
    for (const DataIo io : {DataIo::map, DataIo::pread}) expect_equal(table, describe_series(path), io);
    sign_file(path);
    const SeriesReport report = verify_series(path);
    EXPECT_TRUE(report.sidecar);
    EXPECT_EQ(report.unhashed.size(), GetParam() == SeriesStorage::float64 ? table.series.size() : 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, StorageTest,
                         testing::Values(SeriesStorage::chunks, SeriesStorage::half_chunks, SeriesStorage::deflate,
                                         SeriesStorage::big_endian, SeriesStorage::compact, SeriesStorage::float64));

TEST(SeriesFile, AFileWrittenByH5pyIsAccepted) {
  const std::string python = python_with_h5py();
  if (python.empty()) GTEST_SKIP() << "needs python3-h5py";
  const Scratch scratch;
  const std::string script = scratch.write("write.py", R"(
import sys, h5py, numpy as np
with h5py.File(sys.argv[1], 'w') as f:
    f.attrs.update({'format': 'farsight-data', 'format_version': 1, 'kind': np.bytes_('series'), 'uuid': 'from-h5py'})
    x = np.random.default_rng(1).normal(size=(50, 3))
    mask = np.ones((50, 3), 'u1')
    mask[7, 1], x[7, 1] = 0, np.nan
    f['channels/name'] = ['a', 'b', '\u00e7']
    f['channels/unit'] = np.array([b'K', b'', b'm'])
    f['channels/role'] = [0, 1, 2]
    f['series/s/values'], f['series/s/mask'] = x, mask
    f['series/s/values'].attrs['step_ns'] = 60 * 10**9
    f['series/s/time'] = np.arange(50) * 60 * 10**9
    for name, (begin, end) in {'train': (0, 30), 'valid': (30, 40), 'test': (40, 50)}.items():
        f['splits/' + name] = [[0, begin, end]]
    t = x[:30]
    f['stats/mean'], f['stats/std'] = np.nanmean(t, 0), np.nanstd(t, 0)
    f['stats/min'], f['stats/max'] = np.nanmin(t, 0), np.nanmax(t, 0)
    f['stats/median'] = np.nanmedian(t, 0)
    f['stats/iqr'] = np.nanpercentile(t, 75, 0) - np.nanpercentile(t, 25, 0)
    f['stats/count'] = np.sum(~np.isnan(t), 0)
    x.astype('<f4').tofile(sys.argv[1] + '.raw')
)");
  const std::string path = scratch.path("h5py.h5");
  ASSERT_EQ(std::system((python + " " + script + " " + path).c_str()), 0);
  const SeriesDescriptor file = probe_series(path);
  EXPECT_EQ(file.uuid, "from-h5py");
  EXPECT_EQ(file.channels[2], (Channel{.name = "\u00e7", .unit = "m", .role = ChannelRole::known_future}));
  EXPECT_EQ(file.frequency, (Frequency{.step_ns = 60'000'000'000, .months = 0}));
  SeriesFiles files({file}, {});
  EXPECT_EQ(files.time(0, 49), 49 * 60'000'000'000);
  const std::string raw = Scratch::read(path + ".raw");
  ASSERT_EQ(raw.size(), 4U * 150);
  EXPECT_EQ(std::memcmp(files.values(0, 0, 50), raw.data(), raw.size()), 0);
  EXPECT_EQ(files.mask(0, 7, 1)[1], 0);
  const SeriesReport report = verify_series(path);
  EXPECT_EQ(report.hashed, 0);
  EXPECT_EQ(report.masked, 1);
  EXPECT_EQ(report.values, 150);
}

TEST(SeriesFile, CompressedArraysOfAStrangerAreNotDecoded) {
  const Scratch scratch;
  const std::string path = write_table(scratch.path("s.h5"), random_table(1, {.frequency = kHourly}));
  change_storage(path, SeriesStorage::deflate);
  const SeriesDescriptor file = describe_series(path);
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { SeriesFiles({file}, {}); }), "can only be read through libhdf5");
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { verify_series(path); }), "can only be read through libhdf5");
}

TEST(SeriesFile, DescriptorsSurviveBytesAndCutOnesAreRefused) {
  const Scratch scratch;
  const SeriesTable table = random_table(5, {.frequency = kMonthly});
  const SeriesDescriptor file = describe_series(write_table(scratch.path("s.h5"), table));
  const std::string bytes = file.to_bytes();
  const SeriesDescriptor back = SeriesDescriptor::from_bytes(bytes);
  EXPECT_EQ(back.to_bytes(), bytes);
  expect_equal(table, back, DataIo::map);
  for (size_t length = 0; length < bytes.size(); length += 1 + length / 40) {
    EXPECT_THROW(SeriesDescriptor::from_bytes(bytes.substr(0, length)), Error) << length;
  }
  EXPECT_THROW(SeriesDescriptor::from_bytes(bytes + "x"), Error);
}

TEST(SeriesFile, TheKindIsNamedWhereAnotherIsNeeded) {
  const Scratch scratch;
  const std::string path = write_table(scratch.path("s.h5"), random_table(1, {.frequency = kHourly}));
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { describe_corpus(path); }), "task.kind = \"forecast\"");
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { verify_corpus(path); }), "task.kind = \"forecast\"");
}

TEST(SeriesFile, TablesThatAreNoSeriesAreNotWritten) {
  const Scratch scratch;
  const SeriesTable good = random_table(1, {.frequency = kHourly});
  const auto refusal = [&](const std::function<void(SeriesTable&)>& change) {
    SeriesTable table = good;
    change(table);
    std::string text = error_of(ErrorKind::data, [&] { write_table(scratch.path("s.h5"), table); });
    EXPECT_TRUE(scratch.names().empty());
    return text;
  };
  EXPECT_CONTAINS(refusal([](SeriesTable& t) { t.splits.erase("train"); }), "no rows are for training");
  EXPECT_CONTAINS(refusal([](SeriesTable& t) { t.series[0].time[3] = t.series[0].time[2]; }), "do not increase");
  const auto hide = [](SeriesTable& t, float value, uint8_t mark) {
    t.series[0].mask.assign(t.series[0].values.size(), 1);
    t.series[0].values.assign(t.series[0].values.size(), 1.0F);
    t.series[0].mask[0] = mark;
    t.series[0].values[0] = value;
  };
  EXPECT_CONTAINS(refusal([&](SeriesTable& t) { hide(t, NAN, 1); }), "row 0, channel 'c0': nan without a mask");
  EXPECT_CONTAINS(refusal([&](SeriesTable& t) { hide(t, 3.0F, 0); }), "3 where the mask says not observed");
}

// One series "0" of two channels and 20 rows; train [0, 10), valid [10, 15), test [15, 20).
class DamagedSeries : public testing::Test {
 protected:
  static constexpr int64_t kRows = 20;
  DamagedSeries() {
    SeriesTable table;
    table.channels = {{.name = "a", .unit = ""}, {.name = "b", .unit = ""}};
    table.frequency = kHourly;
    Series series;
    series.id = "0";
    for (int64_t t = 0; t < kRows; ++t) {
      series.time.push_back(t * kHourly.step_ns);
      series.values.insert(series.values.end(), {static_cast<float>(t), static_cast<float>(t * t % 7)});
    }
    series.mask.assign(series.values.size(), 1);
    series.mask[5] = 0;
    series.values[5] = NAN;
    for (const float v : series.values) values_.push_back(v);
    for (const uint8_t m : series.mask) mask_.push_back(m);
    for (const int64_t t : series.time) times_.push_back(static_cast<double>(t));
    table.series.push_back(std::move(series));
    table.splits = {{"train", {{0, 0, 10}}}, {"valid", {{0, 10, 15}}}, {"test", {{0, 15, 20}}}};
    good_ = scratch_.read(write_table(scratch_.path("good.h5"), table));
  }

  // What describing (or verifying) says of the file after an edit, in this process and from the child.
  std::string described(const std::function<void(hid_t)>& edit) const {
    const std::string path = edited(edit);
    std::string text = error_of(ErrorKind::data, [&] { describe_series(path); });
    EXPECT_EQ(error_of(ErrorKind::data, [&] { probe_series(path); }), text);
    return text;
  }
  std::string verified(const std::function<void(hid_t)>& edit) const {
    const std::string path = edited(edit);
    return error_of(ErrorKind::data, [&] { verify_series(path); });
  }
  std::string edited(const std::function<void(hid_t)>& edit) const {
    std::string path = scratch_.write("s.h5", good_);
    edit_file(path, edit);
    return path;
  }

  Scratch scratch_;
  std::string good_;
  std::vector<double> values_, mask_, times_;
};

TEST_F(DamagedSeries, TheUndamagedOneIsGood) {
  EXPECT_EQ(described([](hid_t) {}), "");
  EXPECT_EQ(verified([](hid_t) {}), "");
}

TEST_F(DamagedSeries, MissingDatasets) {
  for (const std::string name : {"/channels/name", "/series", "/series/0/values", "/series/0/time", "/stats",
                                 "/stats/mean", "/stats/iqr", "/stats/count", "/splits"}) {
    EXPECT_CONTAINS(described([&](hid_t file) { remove_link(file, name); }), "is missing") << name;
    EXPECT_CONTAINS(described([&](hid_t file) { remove_link(file, name); }), name);
  }
  EXPECT_CONTAINS(verified([](hid_t file) { remove_link(file, "/splits/train"); }), "'/splits/train' is missing");
}

TEST_F(DamagedSeries, WrongShapesAndTypes) {
  struct Case {
    const char* path;
    hid_t type;
    std::vector<hsize_t> shape;
    const char* text;
  };
  const Case cases[] = {
      {"/series/0/values", H5T_IEEE_F32LE, {40}, "rank 2 is needed"},
      {"/series/0/values", H5T_IEEE_F32LE, {20, 3}, "'/series/0/values' has 60 elements in rows of 3"},
      {"/series/0/values", H5T_IEEE_F32LE, {19, 2}, "'/series/0/values' has 38 elements in rows of 2"},
      {"/series/0/values", H5T_STD_I32LE, {20, 2}, "floating-point numbers are needed"},
      {"/series/0/time", H5T_IEEE_F64LE, {20}, "'/series/0/time' is of floating-point numbers; integers are needed"},
      {"/series/0/time", H5T_STD_I32LE, {20}, "'/series/0/time' is not of 8-byte integers"},
      {"/series/0/time", H5T_STD_I64LE, {20, 1}, "'/series/0/time' is of rank 2"},
      {"/series/0/mask", H5T_STD_U8LE, {20, 1}, "'/series/0/mask' has 20 elements in rows of 1"},
      {"/series/0/mask", H5T_STD_I16LE, {20, 2}, "'/series/0/mask' is not of bytes"},
      {"/channels/role", H5T_STD_U8LE, {3}, "'/channels/role' has 3 elements for 2 channels"},
      {"/channels/name", H5T_STD_U8LE, {2}, "'/channels/name' is not of strings"},
      {"/stats/mean", H5T_IEEE_F64LE, {3}, "'/stats/mean' has rows of 3; 2 are needed"},
      {"/stats/std", H5T_IEEE_F64LE, {2, 1}, "'/stats/std' is not of rank 1"},
      {"/stats/count", H5T_IEEE_F64LE, {2}, "'/stats/count' is not of integers"},
      {"/splits/test", H5T_STD_I64LE, {3, 2}, "'/splits/test' has rows of 2; 3 are needed"},
  };
  for (const Case& c : cases) {
    size_t size = 1;
    for (const hsize_t extent : c.shape) size *= extent;
    EXPECT_CONTAINS(
        described([&](hid_t file) { put_numbers(file, c.path, c.type, c.shape, std::vector<double>(size, 1.0)); }),
        c.text);
  }
}

TEST_F(DamagedSeries, NumbersThatCannotBe) {
  const auto split = [&](const char* name, const std::vector<double>& range) {
    return described([&](hid_t file) {
      put_numbers(file, std::string("/splits/") + name, H5T_STD_I64LE, {1, 3}, range);
    });
  };
  EXPECT_CONTAINS(split("test", {0, 15, 21}), "'/splits/test' holds rows 15 to 21 of series '0', which has 20");
  EXPECT_CONTAINS(split("test", {0, -1, 20}), "'/splits/test' holds rows -1 to 20");
  EXPECT_CONTAINS(split("test", {0, 18, 16}), "'/splits/test' holds rows 18 to 16");
  EXPECT_CONTAINS(split("test", {1, 15, 20}), "'/splits/test' names series 1 of 1");
  EXPECT_CONTAINS(split("valid", {0, 9, 15}),
                  "'/splits/valid' begins at row 9 of series '0', but '/splits/train' ends");
  EXPECT_CONTAINS(split("test", {0, 5, 20}), "'/splits/test' begins at row 5 of series '0', but '/splits/valid' ends");
  for (const std::string name : {"mean", "std", "min", "max", "median", "iqr"}) {
    EXPECT_CONTAINS(described([&](hid_t file) {
                      put_numbers(file, "/stats/" + name, H5T_IEEE_F64LE, {2}, {1.0, NAN});
                    }),
                    "'/stats/" + name + "' of channel 'b' is nan");
  }
  EXPECT_CONTAINS(described([](hid_t f) {
                    put_numbers(f, "/stats/std", H5T_IEEE_F64LE, {2}, {-1, 1});
                  }),
                  "'/stats/std' of channel 'a' is -1");
  EXPECT_CONTAINS(described([](hid_t f) {
                    put_numbers(f, "/channels/role", H5T_STD_U8LE, {2}, {0, 9});
                  }),
                  "'/channels/role' gives channel 'b' role 9");
}

// What only the arrays show.
TEST_F(DamagedSeries, VerificationReadsTheArrays) {
  const auto put_values = [&](size_t at, double value) {
    return verified([&](hid_t file) {
      values_[at] = value;
      put_numbers(file, "/series/0/values", H5T_IEEE_F32LE, {20, 2}, values_);
    });
  };
  EXPECT_CONTAINS(put_values(36, NAN), "'/series/0/values' holds nan at row 18 of channel 'a', and no mask says");
  EXPECT_CONTAINS(put_values(36, INFINITY), "'/series/0/values' holds inf at row 18");
  EXPECT_EQ(put_values(36, 18.5), "");  // no training row
  EXPECT_CONTAINS(put_values(5, 2.0), "'/series/0/values' holds 2 at row 2 of channel 'b', where the mask says not");
  EXPECT_CONTAINS((put_values(5, NAN), put_values(18, 9.5)), "'/stats/mean' says 4.5 for channel 'a'; the training");
  EXPECT_EQ(put_values(18, 9.0), "");
  const auto put_times = [&](size_t at, double hours) {
    return verified([&](hid_t file) {
      std::vector<double> times = times_;
      times[at] += hours * static_cast<double>(kHourly.step_ns);
      put_numbers(file, "/series/0/time", H5T_STD_I64LE, {20}, times);
    });
  };
  EXPECT_CONTAINS(put_times(7, -1.0), "'/series/0/time' does not increase at row 7");
  EXPECT_CONTAINS(put_times(7, 0.5), "'/series/0/time' has 1970-01-01T07:30:00Z at row 7 after");
  EXPECT_CONTAINS(put_times(19, 1.0), "not one step of 1h");
  EXPECT_CONTAINS(verified([&](hid_t file) {
                    mask_[4] = 2;
                    put_numbers(file, "/series/0/mask", H5T_STD_U8LE, {20, 2}, mask_);
                  }),
                  "'/series/0/mask' holds 2 at row 2 of channel 'a'; 0 and 1 are accepted");
  EXPECT_CONTAINS(verified([](hid_t f) {
                    put_numbers(f, "/stats/count", H5T_STD_I64LE, {2}, {10, 10});
                  }),
                  "'/stats/count' says 10 for channel 'b'; the training rows have 9");
  const double iqr = 4.5 * (1.0 + 2e-9);
  EXPECT_CONTAINS(verified([&](hid_t f) {
                    put_numbers(f, "/stats/iqr", H5T_IEEE_F64LE, {2}, {iqr, 3.0});
                  }),
                  "'/stats/iqr' says 4.5");
}

TEST_F(DamagedSeries, EditedNumbersDifferFromTheirHash) {
  const std::vector<ArrayDescriptor> tables = describe_series(scratch_.path("good.h5")).tables;
  EXPECT_EQ(tables.size(), 11U);  // role, 3 splits, 7 of /stats
  for (const ArrayDescriptor& table : tables) {
    const std::string found = verified([&](hid_t file) {
      // In place: the hash of what was there stays.
      const hid_t dataset = H5Dopen2(file, table.path.c_str(), H5P_DEFAULT);
      std::vector<double> values(static_cast<size_t>(table.size));
      H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
      values[0] += 1.0;
      H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
      H5Dclose(dataset);
    });
    EXPECT_CONTAINS(found, table.path);
  }
}

}  // namespace
}  // namespace farsight
