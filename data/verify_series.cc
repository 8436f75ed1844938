// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "data/date_time.h"
#include "data/series_statistics.h"
#include "data/verify_arrays.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kBlock = 1 << 18;                      // elements read at once
constexpr int64_t kTogether = (int64_t{256} << 20) / 8;  // values of training rows that are held at once
constexpr double kTolerance = 1e-9;
constexpr double kNothing = 1e-6;  // of the mean: a deviation of kTolerance of this is none

// Values and marks of rows [begin, begin + count) of one series.
struct RowBlock {
  int64_t begin, count;
  const double* values;  // [count, C]
  const uint8_t* mask;   // [count, C]; nullptr: everything was observed
};

class SeriesVerifier {
 public:
  explicit SeriesVerifier(const SeriesDescriptor& file) : file_(file), arrays_(file) {}

  SeriesReport run() {
    for (const ArrayDescriptor& table : file_.tables) arrays_.check_hash(table);
    for (const SeriesEntry& entry : file_.series) verify_entry(entry);
    verify_statistics();
    static_cast<VerifyReport&>(report_) = arrays_.report();
    return report_;
  }

 private:
  [[noreturn]] void refuse(const std::string& array, const std::string& what) const {
    fail(ErrorKind::data, "{}: '{}' {}", file_.file, array, what);
  }

  void verify_entry(const SeriesEntry& entry) {
    arrays_.check_hash(entry.values);
    arrays_.check_hash(entry.time);
    if (entry.mask) arrays_.check_hash(*entry.mask);
    verify_times(entry);
    each_block(entry, 0, entry.rows, [&](const RowBlock& block) { verify_values(entry, block); });
    ++report_.series;
    report_.rows += entry.rows;
    report_.values += entry.rows * file_.channel_count();
  }

  template <typename Visit>
  void each_time(const SeriesEntry& entry, Visit visit) const {
    IntegerArray time(arrays_.file(), entry.time, DataIo::pread);
    std::vector<int64_t> block(static_cast<size_t>(std::min(kBlock, entry.rows)));
    for (int64_t begin = 0; begin < entry.rows; begin += kBlock) {
      const auto part = std::span(block).first(static_cast<size_t>(std::min(kBlock, entry.rows - begin)));
      time.read(begin, part);
      visit(begin, part);
    }
  }

  void verify_times(const SeriesEntry& entry) const {
    int day = 1;  // what months are counted from
    each_time(entry, [&](int64_t begin, std::span<const int64_t> block) {
      day = std::max(day, anchor_day(block));
      if (begin == 0 && entry.start_ns != 0 && entry.start_ns != block[0]) {
        refuse(entry.values.path, fmt::format("says that its rows start at {}, but the first time is {}",
                                              iso_time(entry.start_ns), iso_time(block[0])));
      }
    });
    int64_t before = 0;
    each_time(entry, [&](int64_t begin, std::span<const int64_t> block) {
      for (size_t i = 0; i < block.size(); ++i) {
        const int64_t row = begin + static_cast<int64_t>(i);
        if (row > 0) verify_step(entry, row, before, block[i], day);
        before = block[i];
      }
    });
  }

  void verify_step(const SeriesEntry& entry, int64_t row, int64_t before, int64_t now, int day) const {
    if (now <= before) {
      refuse(entry.time.path, fmt::format("does not increase at row {}: {} after {}", row, now, before));
    }
    if (file_.frequency == Frequency{} || steps_between(file_.frequency, before, now, day) == 1) return;
    refuse(entry.time.path, fmt::format("has {} at row {} after {}: not one step of {}", iso_time(now), row,
                                        iso_time(before), to_string(file_.frequency)));
  }

  // Rows [begin, end) in blocks.
  template <typename Visit>
  void each_block(const SeriesEntry& entry, int64_t begin, int64_t end, Visit visit) const {
    const int64_t channels = file_.channel_count();
    const int64_t together = std::max<int64_t>(1, kBlock / channels);
    const std::unique_ptr<ArrayReader> values = open_array(arrays_.file(), entry.values, DataIo::pread);
    std::unique_ptr<ArrayReader> mask;
    if (entry.mask) mask = open_array(arrays_.file(), *entry.mask, DataIo::pread);
    std::vector<std::byte> raw;
    std::vector<double> numbers;
    std::vector<uint8_t> marks;
    for (int64_t row = begin; row < end; row += together) {
      const int64_t count = std::min(together, end - row), cells = count * channels;
      raw.resize(static_cast<size_t>(cells * entry.values.width));
      values->read(row * channels, cells, raw.data());
      numbers.resize(static_cast<size_t>(cells));
      widen(raw, entry.values.width, numbers);
      marks.resize(mask ? numbers.size() : 0);
      if (mask) mask->read(row * channels, cells, reinterpret_cast<std::byte*>(marks.data()));
      visit(RowBlock{row, count, numbers.data(), mask ? marks.data() : nullptr});
    }
  }

  static void widen(const std::vector<std::byte>& raw, int width, std::vector<double>& numbers) {
    if (width == 8) {
      std::memcpy(numbers.data(), raw.data(), raw.size());
      return;
    }
    for (size_t i = 0; i < numbers.size(); ++i) {
      float value = 0.0F;
      std::memcpy(&value, raw.data() + 4 * i, 4);
      numbers[i] = static_cast<double>(value);
    }
  }

  void verify_values(const SeriesEntry& entry, const RowBlock& block) {
    const int64_t channels = file_.channel_count();
    for (int64_t i = 0; i < block.count * channels; ++i) {
      const uint8_t mark = block.mask == nullptr ? 1 : block.mask[i];
      const double value = block.values[i];
      report_.masked += mark == 0 ? 1 : 0;
      // Readers take values as f32.
      const bool good = mark == 1 ? std::isfinite(static_cast<float>(value)) : mark == 0 && std::isnan(value);
      if (good) continue;
      const auto at = fmt::format("at row {} of channel '{}'", block.begin + i / channels,
                                  file_.channels[static_cast<size_t>(i % channels)].name);
      if (mark > 1) refuse(entry.mask->path, fmt::format("holds {} {}; 0 and 1 are accepted", mark, at));
      refuse(entry.values.path,
             mark == 1 ? fmt::format("holds {} {}, and no mask says that it was not observed", value, at)
                       : fmt::format("holds {} {}, where the mask says not observed; NaN is needed", value, at));
    }
  }

  // Of some channels at a time, so that memory does not grow with the file.
  void verify_statistics() const {
    const auto train = file_.splits.find("train");
    if (train == file_.splits.end()) fail(ErrorKind::data, "{}: '/splits/train' is missing", file_.file);
    int64_t rows = 0;
    for (const SplitRange& range : train->second) rows += range.end - range.begin;
    const int64_t together = std::max<int64_t>(1, kTogether / std::max<int64_t>(1, rows));
    for (int64_t c = 0; c < file_.channel_count(); c += together) {
      verify_channels(train->second, c, std::min(c + together, file_.channel_count()));
    }
  }

  void verify_channels(const std::vector<SplitRange>& train, int64_t first, int64_t last) const {
    std::vector<std::vector<double>> observed(static_cast<size_t>(last - first));
    for (const SplitRange& range : train) {
      each_block(file_.series[static_cast<size_t>(range.series)], range.begin, range.end, [&](const RowBlock& block) {
        for (int64_t t = 0; t < block.count; ++t) {
          for (int64_t c = first; c < last; ++c) {
            const int64_t i = t * file_.channel_count() + c;
            if (block.mask != nullptr && block.mask[i] == 0) continue;
            observed[static_cast<size_t>(c - first)].push_back(block.values[i]);
          }
        }
      });
    }
    for (int64_t c = first; c < last; ++c) {
      verify_channel(static_cast<size_t>(c), observed[static_cast<size_t>(c - first)]);
    }
  }

  void verify_channel(size_t c, std::vector<double>& observed) const {
    const ChannelStatistics& said = file_.statistics[c];
    const ChannelStatistics found = observed.empty() ? ChannelStatistics{} : channel_statistics(observed);
    const std::string& channel = file_.channels[c].name;
    if (said.count != found.count) {
      refuse("/stats/count", fmt::format("says {} for channel '{}'; the training rows have {} observed values",
                                         said.count, channel, found.count));
    }
    if (found.count == 0) return;  // nothing that could differ
    // Rounding of a mean near 0 is relative to the values, and that of a constant channel's deviation to its value.
    const double size = std::max(found.std, kNothing * std::fabs(found.mean));
    const auto compare = [&](const char* name, double ChannelStatistics::*member) {
      if (std::fabs(said.*member - found.*member) <= kTolerance * std::max(std::fabs(found.*member), size)) return;
      refuse(fmt::format("/stats/{}", name),
             fmt::format("says {} for channel '{}'; the training rows give {}", said.*member, channel, found.*member));
    };
    compare("mean", &ChannelStatistics::mean);
    compare("std", &ChannelStatistics::std);
    compare("min", &ChannelStatistics::min);
    compare("max", &ChannelStatistics::max);
    compare("median", &ChannelStatistics::median);
    compare("iqr", &ChannelStatistics::iqr);
  }

  const SeriesDescriptor& file_;
  ArrayVerifier arrays_;
  SeriesReport report_;
};

}  // namespace

SeriesReport verify_series(const SeriesDescriptor& series) { return SeriesVerifier(series).run(); }

}  // namespace farsight
