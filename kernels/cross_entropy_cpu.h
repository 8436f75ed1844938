// SPDX-License-Identifier: Apache-2.0
// Loops behind cross_entropy.h, on one row of logits.
#pragma once

#include <cstdint>

namespace farsight {

// Largest of n logits, -inf for n = 0; NaN may be lost (it comes back in the sums).
float max_logit_cpu(const float* z, int64_t n);

struct LogitSums {
  double exponentials = 0.0;  // sum of e^(z - m)
  double shifted = 0.0;       // sum of z - m
};
// z := e^(z - m), with the sums taken before; fp32 over blocks, fp64 over blocks of blocks.
LogitSums exponentiate_logits_cpu(float* z, int64_t n, float m);

// z := factor * z - offset.
void scale_logits_cpu(float* z, int64_t n, float factor, float offset);

}  // namespace farsight
