// SPDX-License-Identifier: Apache-2.0
// out[c] = sum over rows of in[r * stride + c] (+ out[c] when add): gradients of biases and norm weights.
// Rows are summed in blocks in fp32 and the blocks in fp64, always in row order: equal bits for any thread count.
#pragma once

#include <cstdint>

namespace farsight {

void column_sums(const float* in, int64_t rows, int64_t cols, int64_t stride, bool add, float* out);

}  // namespace farsight
