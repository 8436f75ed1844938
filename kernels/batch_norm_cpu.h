// SPDX-License-Identifier: Apache-2.0
// Loops behind batch_norm.h. Statistics are fp64, [cols] each.
#pragma once

#include <cstdint>

#include "kernels/dropout_cpu.h"

namespace farsight {

// Rows of a block; depends on the width alone, so that sums do not depend on the number of threads.
int64_t batch_norm_block_rows(int64_t cols);

struct BatchNormBlocks {
  int64_t rows = 0, cols = 0;
  const float* x = nullptr;  // null: nothing is added and `sum` is not written
  int64_t x_stride = 0;
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  float* sum = nullptr;       // contiguous
  double* means = nullptr;    // [blocks, cols]; null: only the sum is wanted
  double* squares = nullptr;  // [blocks, cols] centred
};
void batch_norm_blocks_cpu(const BatchNormBlocks& a, const DropoutDraw& draw);

struct BatchNormColumns {
  const double* mean = nullptr;
  const double* rstd = nullptr;
  const float* weight = nullptr;
};

void batch_norm_forward_cpu(const BatchNormColumns& columns, const float* input, int64_t stride, int64_t rows,
                            int64_t cols, const float* bias, float* y);

// sums [2, cols] of dy and of dy (input - mean) rstd.
void batch_norm_sums_cpu(const BatchNormColumns& columns, const float* dy, const float* input, int64_t stride,
                         int64_t rows, int64_t cols, double* sums);

struct BatchNormBackward {
  int64_t rows = 0, cols = 0;
  const float* dy = nullptr;  // contiguous; may be dresidual
  const float* input = nullptr;
  int64_t input_stride = 0;
  const double* means = nullptr;  // [2, cols] of the two sums over all rows; null: statistics are constants
  float* dresidual = nullptr;     // null: not wanted
  int64_t dresidual_stride = 0;
  bool add_residual = false;
  float* dx = nullptr;  // null: not wanted
  int64_t dx_stride = 0;
  bool add_x = false;
};
void batch_norm_backward_cpu(const BatchNormColumns& columns, const BatchNormBackward& a, const DropoutDraw& draw);

}  // namespace farsight
