// SPDX-License-Identifier: Apache-2.0
// Small forecasters on a short synthetic series: configurations, data, models without training.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/forecast/trained_forecaster.h"
#include "trainer/layout_run.h"

namespace farsight {

// 320 hourly rows of the synthetic series, written once per process below the temporary folder.
std::string short_series();
DatasetFiles series_dataset(const std::string& path);

// A task of L = 48, H = 12 on `path`: PatchTST with 2 layers of width 8, batches of 12 windows, a constant rate. Later
// overrides win: {"model.kind=linear", "loss.kind=mae"}.
Config forecast_config(const std::string& path, std::vector<std::string> overrides);

// What training begins with, where the weights are whole.
TrainedForecaster untrained_forecaster(const Config& config);

// Changes weights and running averages by random amounts of about `size`, so that no bias is zero and no gain is 1.
void shake(Forecaster& model, double size);

}  // namespace farsight
