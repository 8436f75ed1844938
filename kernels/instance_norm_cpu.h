// SPDX-License-Identifier: Apache-2.0
// Loops behind instance_norm.h; y and dy contiguous.
#pragma once

#include <cstdint>

namespace farsight {

struct InstanceNormRows {
  int64_t rows = 0, length = 0, channels = 1;
  const float* x = nullptr;
  int64_t x_stride = 0;
  const uint8_t* observed = nullptr;  // contiguous; null: all
  const float* gamma = nullptr;       // [channels]; null: no parameters
  const float* beta = nullptr;
  bool last = false;  // subtract the last observed value instead of the mean, divide by 1
};

// statistics [rows, 2]: mean and 1 / std.
void instance_norm_forward_cpu(const InstanceNormRows& a, float eps, float* y, float* mean, float* std,
                               double* statistics);

// dgamma and dbeta [rows]: the share of each row; null: not wanted. dx may be null.
void instance_norm_backward_cpu(const InstanceNormRows& a, const double* statistics, const float* dy, float* dgamma,
                                float* dbeta, bool add, float* dx, int64_t dx_stride);

}  // namespace farsight
