// SPDX-License-Identifier: Apache-2.0
// GELU on the device (see gelu.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

struct CudaGeluForward {
  DType type;
  int64_t rows, cols;
  const void* x;
  int64_t x_stride;
  void* y;  // contiguous
};

struct CudaGeluBackward {
  DType type;
  int64_t rows, cols;
  const void* x;
  int64_t x_stride;
  const void* dy;  // contiguous
  void* dx;
  int64_t dx_stride;
  bool add;
};

}  // namespace farsight
