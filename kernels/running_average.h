// SPDX-License-Identifier: Apache-2.0
// Running averages of what every step measures (statistics of batch norms): value += momentum * (measured - value).
// f32 tensors of one device with equal sizes; `rounded` and `gate` as in adamw.h: nothing changes if the gate is NaN.
// The gate must be 1 otherwise: what was measured is not clipped. Elementwise: equal bits for any thread count and any
// cut into shards.
#pragma once

#include <span>

#include "kernels/optimizer_range.h"
#include "kernels/tensor.h"

namespace farsight {

// Elements outside the ranges are left alone; rates and decay of the ranges are not read.
void running_average(const Tensor& values, const Tensor& measured, std::span<const OptimizerRange> ranges,
                     double momentum, const Tensor& rounded = {}, const Tensor& gate = {});

}  // namespace farsight
