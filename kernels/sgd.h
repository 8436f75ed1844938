// SPDX-License-Identifier: Apache-2.0
// Stochastic gradient descent with momentum and decoupled weight decay on flat slabs, in one pass.
//   b = momentum b + gradient_scale * grad       value -= rate (b + weight_decay value [decay ranges])
// Elementwise: equal bits for any thread count and any cut into shards.
#pragma once

#include <span>

#include "kernels/optimizer_range.h"
#include "kernels/tensor.h"

namespace farsight {

struct SgdStep {
  double rate = 0.0;
  double momentum = 0.0;  // 0: `momentum_buffer` may be empty
  double weight_decay = 0.0;
  double gradient_scale = 1.0;  // the clip factor
};

// Throws Error{internal} for spans or ranges that do not match.
void sgd(std::span<float> values, std::span<const float> gradients, std::span<float> momentum_buffer,
         std::span<const OptimizerRange> ranges, const SgdStep& step);
// The same on f32 tensors of one device, with equal bits; momentum_buffer may be not defined(). `rounded` and
// `gate` as in adamw.h.
void sgd(const Tensor& values, const Tensor& gradients, const Tensor& momentum_buffer,
         std::span<const OptimizerRange> ranges, const SgdStep& step, const Tensor& rounded = {},
         const Tensor& gate = {});

}  // namespace farsight
