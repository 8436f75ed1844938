// SPDX-License-Identifier: Apache-2.0
// Loops behind rope.h.
#pragma once

#include <cstdint>

namespace farsight {

// Turns the `heads` heads of each row in place, by the angles or (inverse) back by them.
struct RopeRows {
  const float* cosine = nullptr;  // [rows, half]
  const float* sine = nullptr;
  int64_t rows = 0, heads = 0, half = 0;
  bool inverse = false;
};
void rope_rows_cpu(const RopeRows& spec, float* x, int64_t stride);

}  // namespace farsight
