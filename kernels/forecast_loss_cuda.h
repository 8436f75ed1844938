// SPDX-License-Identifier: Apache-2.0
// Losses of forecast heads on the device (see forecast_loss.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/forecast_terms.h"

namespace farsight {

struct CudaForecastLoss {
  DType type;  // of head, dhead, gamma and beta
  int64_t rows, horizon, channels;
  const void* head;
  int64_t head_stride;
  const float* targets;     // contiguous
  const uint8_t* observed;  // contiguous; null: all
  const float* mean;        // null: 0 and 1
  const float* std;
  const void* gamma;  // null: none
  const void* beta;
  double scale;
  void* dhead;    // [rows, horizon * outputs]; null: no gradients
  float* dgamma;  // [rows], the share of each row; null: not wanted
  float* dbeta;
  double* row_sums;  // [rows, 3] to work in
  double* sums;      // [3]
  float* loss;       // [1]
  ForecastTerms terms;
};

}  // namespace farsight
