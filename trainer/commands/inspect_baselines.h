// SPDX-License-Identifier: Apache-2.0
// `farsight data inspect --baselines`: how far simple forecasters get on a file, before any model is trained.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "data/series.h"
#include "trainer/forecast/baselines.h"

namespace farsight {

struct BaselineRequest {
  std::vector<int64_t> lookbacks = {96}, horizons = {96};
  std::string split = "test";
  int64_t season = 0;     // rows; 0: by the frequency (usual_season)
  int64_t drop_last = 0;  // as BaselineOptions
};

// One baseline at one look-back and horizon.
struct BaselineRow {
  int64_t lookback = 0, horizon = 0;
  int64_t windows = 0, all_windows = 0;  // used, of those in the split
  Baseline baseline = Baseline::repeat_last;
  MetricValues values;
};

struct BaselineTable {
  BaselineRequest request;  // season filled in
  int64_t targets = 0, channels = 0;
  std::vector<BaselineRow> rows;
  std::vector<std::string> notes;  // what was left out, and why
};

// Evaluates every pair of a look-back and a horizon on one rank. Error{data} for a split without a window, Error{usage}
// when drop_last leaves none.
BaselineTable measure_baselines(const SeriesDescriptor& file, const BaselineRequest& request);

void print_baselines(const BaselineTable& table, std::ostream& out);

}  // namespace farsight
