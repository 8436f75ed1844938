// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/inspect_series.h"

#include <algorithm>
#include <ostream>

#include "data/date_time.h"
#include "data/file.h"
#include "data/series_windows.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kSeriesShown = 5, kChannelsShown = 40;
constexpr int64_t kBlock = 1 << 20;  // cells of a mask read at once

bool needs_library(const SeriesEntry& entry) {
  return entry.values.storage == Storage::library || entry.time.storage == Storage::library ||
         (entry.mask && entry.mask->storage == Storage::library);
}

void add_rows(SeriesFiles& files, int64_t series, int64_t begin, int64_t end, RowSpan& span) {
  if (begin == end) return;
  span.first_ns = std::min(span.first_ns, files.time(series, begin));
  span.last_ns = std::max(span.last_ns, files.time(series, end - 1));
}

int64_t masked_cells(SeriesFiles& files, int64_t series) {
  const int64_t rows = files.rows(series), columns = files.channel_count();
  const int64_t together = std::max<int64_t>(1, kBlock / columns);
  int64_t masked = 0;
  for (int64_t begin = 0; begin < rows; begin += together) {
    const int64_t count = std::min(together, rows - begin);
    const uint8_t* mask = files.mask(series, begin, count);
    if (mask != nullptr) masked += std::count(mask, mask + count * columns, uint8_t{0});
  }
  return masked;
}

void read_arrays(SeriesFacts& facts) {
  SeriesFiles files({facts.file}, {.io = DataIo::pread});
  for (int64_t s = 0; s < files.series_count(); ++s) {
    add_rows(files, s, 0, files.rows(s), facts.all);
    facts.masked += masked_cells(files, s);
  }
  for (const auto& [name, ranges] : facts.file.splits) {
    for (const SplitRange& range : ranges) add_rows(files, range.series, range.begin, range.end, facts.splits[name]);
  }
}

std::string dates(const RowSpan& span) {
  return span.has_times() ? fmt::format(" {} to {}", iso_time(span.first_ns), iso_time(span.last_ns)) : "";
}

void print_series_list(const SeriesDescriptor& file, std::ostream& out) {
  if (file.series.size() == 1) return;
  const size_t shown = std::min(file.series.size(), kSeriesShown);
  for (size_t s = 0; s < shown; ++s) {
    const SeriesEntry& entry = file.series[s];
    out << fmt::format("  series {}: {} rows\n", entry.id, with_commas(entry.rows));
  }
  if (shown < file.series.size()) {
    out << fmt::format("  ... and {} more\n", with_commas(static_cast<int64_t>(file.series.size() - shown)));
  }
}

size_t display_width(const std::string& text) {  // of UTF-8, a column per character
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0U) != 0x80U; }));
}

std::string padded(const std::string& text, size_t width) {
  return text + std::string(width - std::min(width, display_width(text)), ' ');
}

void print_channels(const SeriesDescriptor& file, std::ostream& out) {
  const size_t shown = std::min(file.channels.size(), kChannelsShown);
  size_t name = 7, unit = 4;
  for (size_t c = 0; c < shown; ++c) {
    name = std::max(name, display_width(file.channels[c].name));
    unit = std::max(unit, display_width(file.channels[c].unit));
  }
  out << fmt::format("{}  {:12}  {}  {:>11} {:>11} {:>11} {:>11} {:>11} {:>11} {:>11}\n", padded("channel", name),
                     "role", padded("unit", unit), "mean", "std", "min", "median", "max", "iqr", "count");
  for (size_t c = 0; c < shown; ++c) {
    const Channel& channel = file.channels[c];
    const ChannelStatistics& s = file.statistics[c];
    out << fmt::format("{}  {:12}  {}  {:>11.6g} {:>11.6g} {:>11.6g} {:>11.6g} {:>11.6g} {:>11.6g} {:>11}\n",
                       padded(channel.name, name), to_string(channel.role), padded(channel.unit, unit), s.mean, s.std,
                       s.min, s.median, s.max, s.iqr, with_commas(s.count));
  }
  if (shown < file.channels.size()) out << fmt::format("... and {} more\n", file.channels.size() - shown);
}

const char* storage_of(const ArrayDescriptor& array) {
  switch (array.storage) {
    case Storage::contiguous:
      return "contiguous";
    case Storage::chunked:
      return "chunked";
    case Storage::library:
      break;
  }
  return "compressed or converted";
}

}  // namespace

SeriesFacts read_series_facts(const SeriesDescriptor& file) {
  SeriesFacts facts;
  facts.file = file;
  for (const SeriesEntry& entry : file.series) facts.all.rows += entry.rows;
  facts.cells = facts.all.rows * file.channel_count();
  for (const auto& [name, ranges] : file.splits) {
    for (const SplitRange& range : ranges) facts.splits[name].rows += range.end - range.begin;
  }
  if (!file.sidecar && std::any_of(file.series.begin(), file.series.end(), needs_library)) {
    facts.unread = fmt::format("only libhdf5 can read them, and no matching {}.sum vouches for the file", file.file);
  } else {
    read_arrays(facts);
  }
  return facts;
}

void print_series(const SeriesFacts& facts, std::ostream& out) {
  const SeriesDescriptor& file = facts.file;
  out << fmt::format("{}: series, {} bytes, uuid {}\n", file.file, with_commas(file.file_bytes), file.uuid);
  out << fmt::format("licence: {}\n", file.licence.empty() ? "not stated" : file.licence);
  for (const std::string& name : file.source_names) out << fmt::format("source: {}\n", name);
  out << fmt::format("checksum file: {}\n", file.sidecar ? "present" : "none that matches");
  out << fmt::format("{} rows in {} series, {} channels, frequency {}{}{}\n", with_commas(facts.all.rows),
                     with_commas(static_cast<int64_t>(file.series.size())), file.channels.size(),
                     to_string(file.frequency), facts.all.has_times() ? "," : "", dates(facts.all));
  print_series_list(file, out);
  if (!file.static_names.empty()) {
    out << fmt::format("numbers per series: {}\n", fmt::join(file.static_names, ", "));
  }
  const ArrayDescriptor& values = file.series.front().values;
  out << fmt::format("values: float{}, {}\n", 8 * values.width, storage_of(values));
  if (!facts.unread.empty()) {
    out << fmt::format("times and masked cells: not read: {}\n", facts.unread);
  } else {
    out << fmt::format("masked cells: {} of {}\n", with_commas(facts.masked), with_commas(facts.cells));
  }
  for (const char* name : {"train", "valid", "test"}) {
    const auto split = facts.splits.find(name);
    if (split == facts.splits.end()) continue;
    out << fmt::format("{:5}  {} rows {}\n", name, with_commas(split->second.rows), dates(split->second));
  }
  out << "statistics of the training rows:\n";
  print_channels(file, out);
}

}  // namespace farsight
