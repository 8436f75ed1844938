// SPDX-License-Identifier: Apache-2.0
// Rows of a matrix on the device, for rows.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

// to = from, or to += from; f32 and bf16 in any combination, added in fp32.
struct CudaRowsCopy {
  int64_t rows, cols;
  const void* from;
  int64_t from_stride;
  DType from_type;
  void* to;
  int64_t to_stride;
  DType to_type;
  bool add;
};

// Every element = value; f32 or bf16.
struct CudaFill {
  DType type;
  int64_t count;
  void* to;
  float value;
};

}  // namespace farsight
