// SPDX-License-Identifier: Apache-2.0
// A trained forecaster taken from a run, for evaluation and forecasts. Nothing in the run directory is changed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trainer/forecast/forecast_task.h"
#include "trainer/run_directory.h"

namespace farsight {

struct TrainedForecaster {
  Config config;  // of the run
  ForecastFacts facts;
  std::unique_ptr<Forecaster> model;
  std::string checkpoint;  // path of what was loaded
  int64_t step = 0;
  std::vector<std::string> notes;  // damaged checkpoints that were passed over
};

// The checkpoint that was named; else the best one by validation loss, else the newest good one. On the device of this
// thread. Not collective; every rank reads for itself. Error{data} when there is none, or the named one is damaged.
TrainedForecaster load_trained_forecaster(const RunReference& run, const Config& config);

}  // namespace farsight
