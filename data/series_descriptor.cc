// SPDX-License-Identifier: Apache-2.0
#include "data/descriptor_bytes.h"
#include "data/series.h"

namespace farsight {

namespace {

constexpr uint64_t kMagic = 0x3130726573736661;  // "afsser01"

constexpr auto kChannel = [](auto& stream, auto& channel) {
  stream.field(channel.name);
  stream.field(channel.unit);
  stream.field(channel.role);
};

constexpr auto kEntry = [](auto& stream, auto& entry) {
  stream.field(entry.id);
  stream.field(entry.rows);
  stream.field(entry.start_ns);
  kArrayFields(stream, entry.values);
  kArrayFields(stream, entry.time);
  stream.maybe(entry.mask, kArrayFields);
};

constexpr auto kStatistics = [](auto& stream, auto& s) {
  stream.field(s.mean);
  stream.field(s.std);
  stream.field(s.min);
  stream.field(s.max);
  stream.field(s.median);
  stream.field(s.iqr);
  stream.field(s.count);
};

constexpr auto kRange = [](auto& stream, auto& range) {
  stream.field(range.series);
  stream.field(range.begin);
  stream.field(range.end);
};

struct NamedSplit {
  std::string name;
  std::vector<SplitRange> ranges;
};

constexpr auto kSplit = [](auto& stream, auto& split) {
  stream.field(split.name);
  stream.list(split.ranges, kRange);
};

constexpr auto kSeries = [](auto& stream, auto& series, auto& splits) {
  kInfoFields(stream, series);
  stream.list(series.channels, kChannel);
  stream.list(series.static_names, kPlainField);
  stream.field(series.frequency.step_ns);
  stream.field(series.frequency.months);
  stream.list(series.series, kEntry);
  stream.list(series.statics, kPlainField);
  stream.list(series.statistics, kStatistics);
  stream.list(splits, kSplit);
  stream.list(series.tables, kArrayFields);
};

}  // namespace

std::string SeriesDescriptor::to_bytes() const {
  std::vector<NamedSplit> named;
  for (const auto& [name, ranges] : splits) named.push_back({name, ranges});
  DescriptorWriter writer;
  writer.number(kMagic);
  kSeries(writer, *this, named);
  return writer.take();
}

SeriesDescriptor SeriesDescriptor::from_bytes(std::string_view bytes) {
  DescriptorReader reader(bytes);
  if (reader.number() != kMagic) DescriptorReader::refuse();
  SeriesDescriptor series;
  std::vector<NamedSplit> named;
  kSeries(reader, series, named);
  reader.expect_end();
  for (NamedSplit& split : named) series.splits[split.name] = std::move(split.ranges);
  return series;
}

}  // namespace farsight
