// SPDX-License-Identifier: Apache-2.0
// Loops behind linear.h.
#pragma once

#include <cstdint>

namespace farsight {

// y[r, c] += bias[c]; y [rows, cols] contiguous.
void add_bias_cpu(const float* bias, int64_t rows, int64_t cols, float* y);

}  // namespace farsight
