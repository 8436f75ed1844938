// SPDX-License-Identifier: Apache-2.0
// out[c] = sum over rows of in[r * stride + c] (+ out[c] when add): gradients of biases and norm weights.
// Rows are summed in blocks in fp32 and the blocks in fp64, always in row order: equal bits for any thread count.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace farsight {

void column_sums(const float* in, int64_t rows, int64_t cols, int64_t stride, bool add, float* out);
// The same on tensors of one device; out [cols] f32.
void column_sums(const Tensor& in, bool add, const Tensor& out);

}  // namespace farsight
