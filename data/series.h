// SPDX-License-Identifier: Apache-2.0
// Files of time series: HDF5 of kind "series" (series_format.md), described for random reading of windows
// (series_windows.h). Opening has two steps, like that of a corpus (corpus.h): one process validates the metadata,
// everyone else gets the descriptor and touches only the byte ranges of the arrays.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/data_file.h"
#include "data/frequency.h"
#include "data/series_table.h"

namespace farsight {

// Of one channel, over the observed values of the training rows of all series. std: population (ddof 0).
struct ChannelStatistics {
  double mean = 0.0, std = 0.0, min = 0.0, max = 0.0, median = 0.0, iqr = 0.0;
  int64_t count = 0;
  bool operator==(const ChannelStatistics&) const = default;
  // What values are divided by: std, but 1 for a constant channel.
  double scale() const { return std > 0.0 ? std : 1.0; }
};

struct SeriesEntry {
  std::string id;
  int64_t rows = 0;
  int64_t start_ns = 0;                 // time of row 0
  ArrayDescriptor values;               // [T, C] f32 or f64
  ArrayDescriptor time;                 // [T] int64
  std::optional<ArrayDescriptor> mask;  // [T, C] uint8
};

struct SeriesDescriptor : DataFileInfo {
  std::vector<Channel> channels;  // [C]
  std::vector<std::string> static_names;
  Frequency frequency;
  std::vector<SeriesEntry> series;
  std::vector<float> statics;  // [S, K]
  std::vector<ChannelStatistics> statistics;
  std::map<std::string, std::vector<SplitRange>> splits;
  // Where roles, splits, statistics and static numbers lie: read already, kept for their content hashes.
  std::vector<ArrayDescriptor> tables;

  int64_t channel_count() const { return static_cast<int64_t>(channels.size()); }
  // As CorpusDescriptor.
  std::string to_bytes() const;
  static SeriesDescriptor from_bytes(std::string_view bytes);
};

// As probe_corpus and describe_corpus (corpus.h), for kind "series".
SeriesDescriptor probe_series(const std::string& path, const ProbeLimits& limits = {});
SeriesDescriptor describe_series(const std::string& path);

}  // namespace farsight
