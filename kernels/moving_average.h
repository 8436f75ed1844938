// SPDX-License-Identifier: Apache-2.0
// The trend of a series: centred means, with both ends extended by copies of the end values.
//   y[r, t] = 1/kernel * sum over |d| <= (kernel - 1) / 2 of x[r, clamp(t + d, 0, L - 1)]
//   x [R, L] f32, on a device also bf16, may be a column view; y [R, L] of the type of x, contiguous. Sums are fp32.
// Throws Error{internal} unless kernel is odd and positive.
// Source: Zeng et al. 2023 (arXiv:2205.13504).
#pragma once

#include "kernels/tape.h"

namespace farsight {

Var moving_average(Tape& tape, const Var& x, int64_t kernel);

}  // namespace farsight
