// SPDX-License-Identifier: Apache-2.0
// Loops behind patches.h.
#pragma once

#include <cstdint>

namespace farsight {

struct PatchSize {
  int64_t rows, length, patch, stride, count;  // R, L, N is count
};

void patches_forward_cpu(const PatchSize& size, const float* x, int64_t x_stride, float* y);
// dx = the sum of what dy says, or added to it.
void patches_backward_cpu(const PatchSize& size, const float* dy, bool add, float* dx, int64_t dx_stride);

}  // namespace farsight
