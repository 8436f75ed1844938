// SPDX-License-Identifier: Apache-2.0
// Loops behind gelu.h; y and dy contiguous.
#pragma once

#include <cstdint>

namespace farsight {

void gelu_forward_cpu(const float* x, int64_t stride, int64_t rows, int64_t cols, float* y);
void gelu_backward_cpu(const float* x, int64_t stride, const float* dy, int64_t rows, int64_t cols, bool add, float* dx,
                       int64_t dstride);

}  // namespace farsight
