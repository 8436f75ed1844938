// SPDX-License-Identifier: Apache-2.0
#include "data/series_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/error.h"

namespace farsight {

namespace {

// Of sorted values, linear between the two nearest ranks.
double quantile(const std::vector<double>& values, double level) {
  const double at = level * static_cast<double>(values.size() - 1);
  const auto low = static_cast<size_t>(at);
  const double part = at - static_cast<double>(low);
  return part == 0.0 ? values[low] : values[low] + part * (values[low + 1] - values[low]);
}

}  // namespace

ChannelStatistics channel_statistics(std::vector<double>& values) {
  ChannelStatistics s;
  s.count = static_cast<int64_t>(values.size());
  const auto n = static_cast<double>(s.count);
  s.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0.0;
  for (const double v : values) squares += (v - s.mean) * (v - s.mean);
  std::sort(values.begin(), values.end());
  s.min = values.front();
  s.max = values.back();
  // A constant channel is exactly that, whatever rounding says about its mean.
  s.std = s.min == s.max ? 0.0 : std::sqrt(squares / n);
  s.median = quantile(values, 0.5);
  s.iqr = quantile(values, 0.75) - quantile(values, 0.25);
  return s;
}

std::vector<ChannelStatistics> channel_statistics(const SeriesTable& table, const std::vector<SplitRange>& rows) {
  const size_t channels = table.channels.size();
  std::vector<ChannelStatistics> statistics;
  for (size_t c = 0; c < channels; ++c) {
    std::vector<double> values;
    for (const SplitRange& range : rows) {
      const Series& series = table.series[static_cast<size_t>(range.series)];
      for (auto t = static_cast<size_t>(range.begin); t < static_cast<size_t>(range.end); ++t) {
        const size_t cell = t * channels + c;
        if (series.mask.empty() || series.mask[cell] != 0) values.push_back(static_cast<double>(series.values[cell]));
      }
    }
    if (values.empty()) {
      fail(ErrorKind::data, "channel '{}': no observed value in the training rows; choose another --split or --drop it",
           table.channels[c].name);
    }
    statistics.push_back(channel_statistics(values));
  }
  return statistics;
}

}  // namespace farsight
