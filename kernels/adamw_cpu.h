// SPDX-License-Identifier: Apache-2.0
// Loop behind adamw.h.
#pragma once

#include <cstdint>

namespace farsight {

// The scalars of one step, rounded once.
struct AdamWFactors {
  float gradient_scale;
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float keep;       // 1 - rate * weight_decay
  float step_size;  // rate / (1 - beta1^t)
  float root;       // 1 / sqrt(1 - beta2^t)
  float eps;
};
void adamw_cpu(const AdamWFactors& factors, int64_t n, const float* gradient, float* value, float* m, float* v);

}  // namespace farsight
