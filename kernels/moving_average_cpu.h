// SPDX-License-Identifier: Apache-2.0
// Loops behind moving_average.h; y and dy contiguous.
#pragma once

#include <cstdint>

namespace farsight {

void moving_average_forward_cpu(const float* x, int64_t x_stride, int64_t rows, int64_t length, int64_t kernel,
                                float* y);
void moving_average_backward_cpu(const float* dy, int64_t rows, int64_t length, int64_t kernel, bool add, float* dx,
                                 int64_t dx_stride);

}  // namespace farsight
