// SPDX-License-Identifier: Apache-2.0
// Loops behind norm.h. A row holds `groups` groups of `width` columns; statistics are [rows, groups].
#pragma once

#include <cstdint>

#include "kernels/dropout_cpu.h"

namespace farsight {

struct NormSize {
  int64_t rows = 0, groups = 0, width = 0;
  bool centred = false;  // layer norm
};

struct NormForward {
  const float* x = nullptr;  // null: nothing is added and `sum` is not written
  int64_t x_stride = 0;
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  float* sum = nullptr;  // contiguous
  const float* weight = nullptr;
  const float* bias = nullptr;  // null: none
  float eps = 0.0F;
  float* y = nullptr;     // contiguous
  float* rstd = nullptr;  // [rows, groups]
  float* mean = nullptr;  // the same, centred only
};
void norm_forward_cpu(const NormSize& size, const NormForward& args, const DropoutDraw& draw);

struct NormBackward {
  const float* dy = nullptr;     // contiguous
  const float* input = nullptr;  // what was normalised
  int64_t input_stride = 0;
  const float* weight = nullptr;
  const float* rstd = nullptr;
  const float* mean = nullptr;
  const float* dsum = nullptr;  // gradient of the new residual, contiguous; null: none. May be dresidual.
  float* dresidual = nullptr;   // null: not wanted
  int64_t dresidual_stride = 0;
  bool add_residual = false;
  float* dx = nullptr;  // null: not wanted
  int64_t dx_stride = 0;
  bool add_x = false;
  float* dweight = nullptr;  // [norm_blocks(rows), width] partial sums, overwritten
  float* dbias = nullptr;    // the same; null: no bias
};
// Rows are cut into blocks whose size does not depend on the number of threads.
int64_t norm_blocks(int64_t rows);
void norm_backward_cpu(const NormSize& size, const NormBackward& args, const DropoutDraw& draw);

}  // namespace farsight
