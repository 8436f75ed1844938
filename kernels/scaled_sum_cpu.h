// SPDX-License-Identifier: Apache-2.0
// Loop behind scaled_sum.h.
#pragma once

#include <cstdint>

namespace farsight {

// y [rows, cols] = a + factor b; a null: factor b, added to y if `add`.
struct ScaledSumRows {
  int64_t rows, cols;
  const float* a;
  int64_t a_stride;
  const float* b;
  int64_t b_stride;
  float factor;
  float* y;
  int64_t y_stride;
  bool add;
};
void scaled_sum_cpu(const ScaledSumRows& arguments);

}  // namespace farsight
