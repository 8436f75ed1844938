// SPDX-License-Identifier: Apache-2.0
// Norms of flat fp32 ranges in fp64. Sums are taken over fixed blocks in a fixed order: equal bits for any thread
// count.
#pragma once

#include <span>

#include "kernels/tensor.h"

namespace farsight {

// Sum of squares; infinite or NaN iff an element is (no finite fp32 input overflows fp64).
double sum_of_squares(std::span<const float> values);

// Largest magnitude; NaN if an element is NaN.
double largest_magnitude(std::span<const float> values);
// The same of a contiguous f32 tensor wherever it lies; waits for the device.
double sum_of_squares(const Tensor& values);
double largest_magnitude(const Tensor& values);

// min(1, max_norm / (norm + 1e-6)), the factor that optimizers take as gradient_scale; 1 when max_norm <= 0 (no clip).
double clip_factor(double norm, double max_norm);

}  // namespace farsight
