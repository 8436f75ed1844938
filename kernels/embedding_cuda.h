// SPDX-License-Identifier: Apache-2.0
// Rows of tables on the device (see embedding.h).
#pragma once

#include <cstdint>

#include "kernels/dropout_cuda.h"
#include "kernels/dtype.h"

namespace farsight {

// y[n] = dropout(table[ids[n]] + positional[position_ids[n]]); zero where ids[n] is negative.
struct CudaGatherRows {
  DType type;  // of the tables and y
  int64_t rows, cols;
  const void* table;
  const int32_t* ids;      // [rows]; null: row n of the table
  const void* positional;  // null: none
  const int32_t* position_ids;
  void* y;  // contiguous
  CudaDropout dropout;
};

// gradient[target[i]] += sum of dropout(dy[n]) over the rows n = order[start[i]], ... order[start[i + 1] - 1], in this
// order. No two targets are equal.
struct CudaScatterRows {
  DType type;  // of dy
  int64_t targets, cols;
  const void* dy;
  int64_t stride;
  const int32_t* order;
  const int32_t* start;   // [targets + 1]
  const int32_t* target;  // [targets]
  float* gradient;
  CudaDropout dropout;
};

}  // namespace farsight
