// SPDX-License-Identifier: Apache-2.0
// Sums of a training step that stay where they are computed: fp64 scalars beside the tensors they are of, so that the
// host need not wait for a device in the middle of a step. Nothing here waits. A total is an f64 tensor of one element
// on the device of what is added to it (Error{internal} otherwise).
#pragma once

#include "kernels/tensor.h"

namespace farsight {

// total += weight * sum of the elements, or of their squares. values: f32, contiguous. Taken in fp64 over fixed blocks
// in a fixed order: equal bits for any thread count. Infinite or NaN iff an element is (squares of finite fp32 numbers
// do not overflow). `rounded`, f32 [1] or not defined(), gets the new total.
void add_sum(const Tensor& values, double weight, const Tensor& total, const Tensor& rounded = {});
void add_squares(const Tensor& values, double weight, const Tensor& total);
// total += other.
void add_total(const Tensor& other, const Tensor& total);

// min(1, max_norm / (norm + 1e-6)); 1 when max_norm <= 0 (no clip).
double clip_factor(double norm, double max_norm);
// gate [1] f32, where the totals [n] f64 are: what an optimizer multiplies the gradients with. It is
// clip_factor(sqrt(totals[n - 1]), max_norm), or NaN, with which optimizers change nothing, unless all totals are
// finite.
void update_gate(const Tensor& totals, double max_norm, const Tensor& gate);

}  // namespace farsight
