// SPDX-License-Identifier: Apache-2.0
// What training a forecaster costs, by formula, and the plan made of it. Measured on PatchTST of the default size:
// bytes within a tenth.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "data/series_table.h"
#include "trainer/config.h"

namespace farsight {

struct ForecastCost {
  int64_t parameters = 0;
  int64_t tokens = 0;            // of attention, per window and channel; 0 without attention
  double flops_per_window = 0;   // forward and backward, all target channels
  int64_t bytes_per_window = 0;  // kept from forward to backward, and the temporaries of the fullest moment
};
// Error{config}, Error{data} for what the configuration and the channels do not allow together.
ForecastCost forecast_cost(const Config& config, const std::vector<Channel>& channels);

// Bytes of a rank: weights, gradients, optimizer state, windows of a pass.
int64_t forecast_memory(const Config& config, const ForecastCost& cost, const RunLayout& layout);

// `farsight plan` of a forecaster: everything that is wrong at once (Error{config}), else what it is and costs.
// memory_limit: bytes a rank may take, 0 = no limit.
std::string plan_forecast(const Config& config, int64_t ranks, int64_t memory_limit, bool json);

}  // namespace farsight
