// SPDX-License-Identifier: Apache-2.0
// Loop behind sgd.h.
#pragma once

#include <cstdint>

namespace farsight {

struct SgdFactors {
  float gradient_scale;
  float momentum;
  float keep;  // 1 - rate * weight_decay
  float rate;
};
// momentum_buffer may be null: then there is no momentum.
void sgd_cpu(const SgdFactors& factors, int64_t n, const float* gradient, float* value, float* momentum_buffer);

}  // namespace farsight
