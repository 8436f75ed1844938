// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding on the device (see rope.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

// cosine, sine [rows, half] of positions[row] * frequency[i], angles in fp64.
struct CudaRopeTable {
  int64_t rows, half;
  const int32_t* positions;
  const double* frequency;  // [half]
  float* cosine;
  float* sine;
};

// Rotates rows of `heads` heads in place.
struct CudaRopeRows {
  DType type;
  int64_t rows, heads, half;
  void* x;
  int64_t stride;
  const float* cosine;  // [rows, half]
  const float* sine;
  bool inverse;
};

}  // namespace farsight
