// SPDX-License-Identifier: Apache-2.0
// AdamW on flat slabs in one pass: every value, gradient and moment is read once and written at most once.
//   g = gradient_scale * grad
//   m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
//   value -= rate (weight_decay value [decay ranges] + (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps))
// Scalars in fp64, elements in fp32. Elementwise: equal bits for any thread count and any cut into shards.
// Source: Loshchilov & Hutter 2019 (arXiv:1711.05101).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/optimizer_range.h"
#include "kernels/tensor.h"

namespace farsight {

struct AdamWStep {
  double rate = 0.0;  // learning rate of this step
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.0;
  double gradient_scale = 1.0;  // the clip factor
  int64_t step = 1;             // t, counted from 1
};

// The four spans have equal sizes; elements outside the ranges (alignment gaps) are left alone.
// Throws Error{internal} for spans or ranges that do not match.
void adamw(std::span<float> values, std::span<const float> gradients, std::span<float> m, std::span<float> v,
           std::span<const OptimizerRange> ranges, const AdamWStep& step);
// The same on f32 tensors of one device, with equal bits. `rounded`, a bf16 tensor of the same size, or not defined():
// gets the new values too. `gate` (totals.h), f32 [1], or not defined(): takes the place of step.gradient_scale, and
// nothing changes if it is NaN.
void adamw(const Tensor& values, const Tensor& gradients, const Tensor& m, const Tensor& v,
           std::span<const OptimizerRange> ranges, const AdamWStep& step, const Tensor& rounded = {},
           const Tensor& gate = {});

}  // namespace farsight
