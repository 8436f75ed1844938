// SPDX-License-Identifier: Apache-2.0
// Instance normalisation on the device (see instance_norm.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

struct CudaInstanceNormForward {
  DType type;  // of y, gamma and beta
  int64_t rows, length, channels;
  const float* x;
  int64_t x_stride;
  const uint8_t* observed;  // contiguous; null: all
  const void* gamma;        // null: no parameters
  const void* beta;
  bool last;  // see InstanceNormRows
  float eps;
  void* y;  // contiguous
  float* mean;
  float* std;
  double* statistics;  // [rows, 2]: mean, 1 / std
};

struct CudaInstanceNormBackward {
  DType type;  // of dy and gamma
  int64_t rows, length, channels;
  const float* x;
  int64_t x_stride;
  const uint8_t* observed;
  const void* gamma;
  const double* statistics;
  const void* dy;  // contiguous
  float* dgamma;   // [rows], of each row; null: not wanted
  float* dbeta;
  float* dx;  // null: not wanted
  int64_t dx_stride;
  bool add;
};

}  // namespace farsight
