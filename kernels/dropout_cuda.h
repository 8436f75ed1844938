// SPDX-License-Identifier: Apache-2.0
// Token dropout on the device (see dropout.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

// A site: which element is kept. keys == null: no dropout.
struct CudaDropout {
  const uint64_t* keys;      // [B]
  const int32_t* positions;  // [B * tokens]
  int64_t tokens;            // rows of a sample
  int64_t first_row, first_channel;
  uint32_t threshold;
  float keep;  // 1 / (1 - p)
};

// y = x * factors, or added to y.
struct CudaDropoutRows {
  DType type;  // of x and y
  int64_t rows, cols;
  const void* x;
  int64_t x_stride;
  void* y;
  int64_t y_stride;
  bool add;
  CudaDropout dropout;
};

}  // namespace farsight
