// SPDX-License-Identifier: Apache-2.0
// Scaled sums on the device (see scaled_sum.h, scaled_sum_cpu.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

struct CudaScaledSum {
  DType type;
  int64_t rows, cols;
  const void* a;  // null: factor b alone
  int64_t a_stride;
  const void* b;
  int64_t b_stride;
  float factor;
  void* y;
  int64_t y_stride;
  bool add;  // to y; without a
};

}  // namespace farsight
