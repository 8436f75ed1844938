// SPDX-License-Identifier: Apache-2.0
#include "data/series_check.h"

#include <cmath>
#include <map>
#include <set>

#include "data/array_check.h"
#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

class SeriesCheck {
 public:
  explicit SeriesCheck(const SeriesDescriptor& file) : file_(file) {}

  void run() const {
    const int64_t channels = file_.channel_count();
    if (channels < 1 || channels > kMaxChannels) {
      refuse(fmt::format("'/channels/name' has {} names; 1 to {} are accepted", channels, kMaxChannels));
    }
    std::set<std::string> names;
    for (const Channel& channel : file_.channels) {
      if (!names.insert(channel.name).second) {
        refuse(fmt::format("'/channels/name': two channels are called '{}'", channel.name));
      }
    }
    if (file_.series.empty()) refuse("there is no group in '/series'");
    std::set<std::string> ids;
    for (const SeriesEntry& entry : file_.series) {
      check_entry(entry);
      if (!ids.insert(entry.id).second) refuse(fmt::format("'/series': two series are called '{}'", entry.id));
    }
    check_frequency();
    check_statistics();
    if (file_.statics.size() != file_.series.size() * file_.static_names.size()) {
      refuse(fmt::format("'/static' has {} numbers for {} series and {} names", file_.statics.size(),
                         file_.series.size(), file_.static_names.size()));
    }
    for (const auto& [name, ranges] : file_.splits) check_split(name, ranges);
    check_order_of_splits();
    for (const ArrayDescriptor& table : file_.tables) check_array(file_, table);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const { fail(ErrorKind::data, "{}: {}", file_.file, what); }

  void check_shape(const SeriesEntry& entry, const ArrayDescriptor& array, int64_t columns) const {
    check_array(file_, array);
    if (array.columns == columns && array.size == entry.rows * std::max<int64_t>(columns, 1)) return;
    refuse(fmt::format("'{}' has {} elements in rows of {}; {} rows of {} channels are needed", array.path, array.size,
                       array.columns, entry.rows, file_.channel_count()));
  }

  void check_entry(const SeriesEntry& entry) const {
    if (entry.rows < 1 || entry.rows > kMaxExtent / kMaxChannels) {
      refuse(fmt::format("'{}' has {} rows", entry.time.path, entry.rows));
    }
    check_shape(entry, entry.values, file_.channel_count());
    check_shape(entry, entry.time, 0);
    if (entry.time.width != 8) refuse(fmt::format("'{}' is not of 8-byte integers", entry.time.path));
    if (!entry.values.is_float) refuse(fmt::format("'{}' is not of floating-point numbers", entry.values.path));
    if (!entry.mask) return;
    check_shape(entry, *entry.mask, file_.channel_count());
    if (entry.mask->width != 1) refuse(fmt::format("'{}' is not of bytes", entry.mask->path));
  }

  void check_frequency() const {
    const Frequency& f = file_.frequency;
    if (f.step_ns < 0 || f.months < 0 || f.months > 1200 || (f.step_ns > 0 && f.months > 0)) {
      refuse(fmt::format("step_ns = {} with months = {} is no frequency", f.step_ns, f.months));
    }
  }

  void check_statistics() const {
    if (file_.statistics.size() != file_.channels.size()) {
      refuse(fmt::format("'/stats' describes {} channels of {}", file_.statistics.size(), file_.channels.size()));
    }
    for (size_t c = 0; c < file_.channels.size(); ++c) {
      const ChannelStatistics& s = file_.statistics[c];
      const std::string& channel = file_.channels[c].name;
      const std::pair<const char*, double> values[] = {{"mean", s.mean}, {"std", s.std},       {"min", s.min},
                                                       {"max", s.max},   {"median", s.median}, {"iqr", s.iqr}};
      for (const auto& [name, value] : values) {
        if (!std::isfinite(value)) refuse(fmt::format("'/stats/{}' of channel '{}' is {}", name, channel, value));
      }
      if (s.std < 0.0) refuse(fmt::format("'/stats/std' of channel '{}' is {}", channel, s.std));
      if (s.count < 0) refuse(fmt::format("'/stats/count' of channel '{}' is {}", channel, s.count));
    }
  }

  // What is tested must not have been trained on.
  void check_order_of_splits() const {
    struct Seen {
      int64_t end = 0;
      const char* split = nullptr;
    };
    std::map<int64_t, Seen> seen;  // by series: of the splits before this one
    for (const char* name : {"train", "valid", "test"}) {
      const auto split = file_.splits.find(name);
      if (split == file_.splits.end()) continue;
      std::map<int64_t, Seen> after = seen;
      for (const SplitRange& range : split->second) {
        if (range.begin == range.end) continue;
        if (const auto before = seen.find(range.series); before != seen.end() && range.begin < before->second.end) {
          refuse(fmt::format("'/splits/{}' begins at row {} of series '{}', but '/splits/{}' ends at row {}", name,
                             range.begin, file_.series[static_cast<size_t>(range.series)].id, before->second.split,
                             before->second.end));
        }
        Seen& latest = after[range.series];
        if (range.end > latest.end) latest = {range.end, name};
      }
      seen = std::move(after);
    }
  }

  void check_split(const std::string& name, const std::vector<SplitRange>& ranges) const {
    for (const SplitRange& range : ranges) {
      if (range.series < 0 || range.series >= static_cast<int64_t>(file_.series.size())) {
        refuse(fmt::format("'/splits/{}' names series {} of {}", name, range.series, file_.series.size()));
      }
      const SeriesEntry& entry = file_.series[static_cast<size_t>(range.series)];
      if (range.begin >= 0 && range.begin <= range.end && range.end <= entry.rows) continue;
      refuse(fmt::format("'/splits/{}' holds rows {} to {} of series '{}', which has {}", name, range.begin, range.end,
                         entry.id, entry.rows));
    }
  }

  const SeriesDescriptor& file_;
};

}  // namespace

void check_series(const SeriesDescriptor& series) { SeriesCheck(series).run(); }

}  // namespace farsight
