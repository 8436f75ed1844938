// SPDX-License-Identifier: Apache-2.0
// Normalisation on the device (see norm.h). A row holds `groups` groups of `width` columns. Values, weights and their
// gradients with respect to activations have one type, statistics and gradients of weights are fp32. The new residual
// is rounded to the type before it is normalised, so that backward sees what forward saw.
#pragma once

#include <cstdint>

#include "kernels/dropout_cuda.h"
#include "kernels/dtype.h"

namespace farsight {

struct CudaNormForward {
  DType type;
  int64_t rows, groups, width;
  bool centred;   // layer norm
  const void* x;  // null: nothing is added and `sum` is not written
  int64_t x_stride;
  const void* residual;
  int64_t residual_stride;
  void* sum;  // contiguous
  const void* weight;
  const void* bias;  // null: none
  float eps;
  void* y;      // contiguous
  float* rstd;  // [rows, groups]
  float* mean;  // the same, centred only
  CudaDropout dropout;
};

// Rows whose contributions to the weight gradients are summed in one go: `dweight` and `dbias` have one row for each
// kCudaNormRows rows.
inline constexpr int64_t kCudaNormRows = 32;

struct CudaNormBackward {
  DType type;
  int64_t rows, groups, width;
  bool centred;
  const void* dy;     // contiguous
  const void* input;  // what was normalised
  int64_t input_stride;
  const void* weight;
  const float* rstd;
  const float* mean;
  const void* dsum;  // gradient of the new residual, contiguous; null: none. May be dresidual.
  void* dresidual;   // null: not wanted
  int64_t dresidual_stride;
  bool add_residual;
  void* dx;  // null: not wanted
  int64_t dx_stride;
  bool add_x;
  float* dweight;  // [ceil(rows / kCudaNormRows), width], overwritten
  float* dbias;    // the same; null: no bias
  CudaDropout dropout;
};

}  // namespace farsight
