// SPDX-License-Identifier: Apache-2.0
// y = a + factor b, element by element.
//   a, b of one shape, f32 or on a device bf16, may be column views; y contiguous. Holds nothing until backward:
//   da = dy, db = factor dy.
// Throws Error{internal} for shapes, types or devices that differ.
#pragma once

#include "kernels/tape.h"

namespace farsight {

Var scaled_sum(Tape& tape, const Var& a, const Var& b, float factor);

}  // namespace farsight
