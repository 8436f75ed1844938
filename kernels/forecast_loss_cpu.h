// SPDX-License-Identifier: Apache-2.0
// Loops behind forecast_loss.h.
#pragma once

#include <cstdint>

#include "kernels/forecast_terms.h"

namespace farsight {

struct ForecastRows {
  int64_t rows = 0, horizon = 0, channels = 1;
  const float* head = nullptr;
  int64_t head_stride = 0;
  const float* targets = nullptr;     // contiguous
  const uint8_t* observed = nullptr;  // contiguous; null: all
  const float* mean = nullptr;        // null: 0 and 1
  const float* std = nullptr;
  const float* gamma = nullptr;  // null: none
  const float* beta = nullptr;
  double scale = 1.0;
  float* dhead = nullptr;   // [rows, horizon * outputs]; null: no gradients
  float* dgamma = nullptr;  // [rows], the share of each row; null: not wanted
  float* dbeta = nullptr;
};

// sums [3].
void forecast_loss_cpu(const ForecastTerms& terms, const ForecastRows& rows, double* sums);

}  // namespace farsight
