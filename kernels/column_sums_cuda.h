// SPDX-License-Identifier: Apache-2.0
// Column sums on the device (see column_sums.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

// out[c] = sum over rows (+ out[c]). Blocks of rows are summed first, then the blocks, in order and fp32. There are at
// most 512 blocks, so that neither sum is long.
inline int64_t cuda_sum_rows(int64_t rows) { return rows <= 512 * 512 ? 512 : (rows + 511) / 512; }
struct CudaColumnSums {
  DType type;  // of in
  int64_t rows, cols;
  const void* in;
  int64_t stride;
  int64_t block_rows;  // cuda_sum_rows(rows)
  float* partial;      // [ceil(rows / block_rows), cols] to work in; unused when that is one row
  float* out;
  bool add;
};

}  // namespace farsight
