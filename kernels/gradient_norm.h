// SPDX-License-Identifier: Apache-2.0
// Norms of flat fp32 ranges in fp64. Sums are taken over fixed blocks in a fixed order: equal bits for any thread
// count.
#pragma once

#include <span>

namespace farsight {

// Sum of squares; infinite or NaN iff an element is (no finite fp32 input overflows fp64).
double sum_of_squares(std::span<const float> values);

// Largest magnitude; NaN if an element is NaN.
double largest_magnitude(std::span<const float> values);

// min(1, max_norm / (norm + 1e-6)), the factor that optimizers take as gradient_scale; 1 when max_norm <= 0 (no clip).
double clip_factor(double norm, double max_norm);

}  // namespace farsight
