// SPDX-License-Identifier: Apache-2.0
// Loops behind swiglu.h. Rows of gate_up and dgate_up: `width` gate columns, then `width` up columns.
#pragma once

#include <cstdint>

namespace farsight {

void swiglu_forward_cpu(const float* gate_up, int64_t stride, int64_t rows, int64_t width, float* y);
void swiglu_backward_cpu(const float* gate_up, int64_t stride, const float* dy, int64_t rows, int64_t width, bool add,
                         float* dgate_up, int64_t dstride);

}  // namespace farsight
