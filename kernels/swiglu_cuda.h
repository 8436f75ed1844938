// SPDX-License-Identifier: Apache-2.0
// SwiGLU on the device (see swiglu.h). Rows of gate_up hold `cols` gates, then `cols` ups.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

struct CudaSwigluForward {
  DType type;
  int64_t rows, cols;
  const void* gate_up;
  int64_t stride;
  void* y;  // contiguous
};

struct CudaSwigluBackward {
  DType type;
  int64_t rows, cols;
  const void* gate_up;
  int64_t stride;
  const void* dy;  // contiguous
  void* d_gate_up;
  int64_t d_stride;
  bool add;
};

}  // namespace farsight
