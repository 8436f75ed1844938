// SPDX-License-Identifier: Apache-2.0
// Series cut into overlapping patches: the last value is appended `pad` times, then
//   y[r * N + n, i] = x[r, min(n * stride + i, L - 1)],   N = floor((L + pad - patch) / stride) + 1
//   x [R, L] f32, on a device also bf16, may be a column view; y [R * N, patch] of the type of x, contiguous.
// Backward adds the gradients of overlapping patches in the order of the patches: equal bits for any thread count.
// Throws Error{internal} for sizes that are not positive, a negative pad, and a series without a whole patch.
// Source: Nie et al. 2023 (arXiv:2211.14730).
#pragma once

#include "kernels/tape.h"

namespace farsight {

int64_t patch_count(int64_t length, int64_t patch, int64_t stride, int64_t pad);  // N
Var patches(Tape& tape, const Var& x, int64_t patch, int64_t stride, int64_t pad);

}  // namespace farsight
