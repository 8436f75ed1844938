// SPDX-License-Identifier: Apache-2.0
// The statistics of the channels that a file of time series keeps: computed when it is written, and again when it is
// verified.
#pragma once

#include <vector>

#include "data/series.h"
#include "data/series_table.h"

namespace farsight {

// Of the observed values of one channel, at least one. Sorts them. Quantiles are linear between ranks.
ChannelStatistics channel_statistics(std::vector<double>& values);

// Of each channel, over the observed values of these rows of all series. Error{data} naming the channel where there is
// none.
std::vector<ChannelStatistics> channel_statistics(const SeriesTable& table, const std::vector<SplitRange>& rows);

}  // namespace farsight
