// SPDX-License-Identifier: Apache-2.0
// Patches on the device (see patches.h). Gradients are summed in fp32 and rounded once.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

struct CudaPatchesForward {
  DType type;
  int64_t rows, length, patch, stride, count;
  const void* x;
  int64_t x_stride;
  void* y;  // [rows * count, patch] contiguous
};

struct CudaPatchesBackward {
  DType type;
  int64_t rows, length, patch, stride, count;
  const void* dy;  // contiguous
  void* dx;
  int64_t dx_stride;
  bool add;
};

}  // namespace farsight
