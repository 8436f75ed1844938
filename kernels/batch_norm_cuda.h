// SPDX-License-Identifier: Apache-2.0
// Batch normalisation on the device (see batch_norm.h). Activations, weight and bias have one type; sums and statistics
// are fp64.
#pragma once

#include <cstdint>

#include "kernels/dropout_cuda.h"
#include "kernels/dtype.h"

namespace farsight {

inline constexpr int64_t kCudaBatchNormRows = 256;  // of a block

// The sum of residual and branch, and means and centred squares of each block of rows, [blocks, cols].
struct CudaBatchNormBlocks {
  DType type;
  int64_t rows, cols;
  const void* x;  // null: nothing is added and `sum` is not written
  int64_t x_stride;
  const void* residual;
  int64_t residual_stride;
  void* sum;      // contiguous
  double* means;  // null: only the sum is wanted
  double* squares;
  CudaDropout dropout;
};

// Joins the blocks: totals[c] = sum over the rows; or, given the totals of all ranks, squares[c] = sum of the squares
// of the distances to their mean.
struct CudaBatchNormJoin {
  int64_t rows, cols, all_rows;
  const double* means;
  const double* squares;
  const double* totals;  // null: totals are wanted
  double* out;           // [cols]
};

// Where mean and variance of a column come from.
struct CudaBatchStatistics {
  const double* totals;  // [cols], of all_rows rows; null: the running averages
  const double* squares;
  int64_t all_rows;
  DType running_type;
  const void* running_mean;
  const void* running_var;
  float eps;
};

struct CudaBatchNormForward {
  DType type;
  int64_t rows, cols;
  const void* input;
  int64_t input_stride;
  CudaBatchStatistics statistics;
  const void* weight;
  const void* bias;
  void* y;  // contiguous
};

// sums [2, cols] of dy and of dy xhat; partial [blocks, 2, cols] to work in.
struct CudaBatchNormSums {
  DType type;
  int64_t rows, cols;
  const void* dy;  // contiguous
  const void* input;
  int64_t input_stride;
  CudaBatchStatistics statistics;
  double* partial;
  double* sums;
};

struct CudaBatchNormBackward {
  DType type;
  int64_t rows, cols;
  const void* dy;  // contiguous; may be dresidual
  const void* input;
  int64_t input_stride;
  CudaBatchStatistics statistics;
  const void* weight;
  const double* sums;  // [2, cols] over all rows of all ranks; null: statistics are constants
  void* dresidual;     // null: not wanted
  int64_t dresidual_stride;
  bool add_residual;
  void* dx;  // null: not wanted
  int64_t dx_stride;
  bool add_x;
  CudaDropout dropout;
};

// to = factor * from, or added to it.
struct CudaAddScaled {
  int64_t count;
  const double* from;
  double factor;
  bool add;
  float* to;
};

}  // namespace farsight
