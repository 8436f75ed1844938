// SPDX-License-Identifier: Apache-2.0
// Moving averages on the device (see moving_average.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

// Forward: `from` is x and `to` is y. Backward: `from` is dy and `to` is dx.
struct CudaMovingAverage {
  DType type;
  int64_t rows, length, kernel;
  const void* from;
  int64_t from_stride;
  void* to;
  int64_t to_stride;
  bool backward;
  bool add;  // to what is there
};

}  // namespace farsight
