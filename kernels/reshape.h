// SPDX-License-Identifier: Apache-2.0
// The same elements under another shape.
//   x contiguous, any type; the result shares memory with x, and where x has no other consumer its gradient becomes
//   that of x without a copy.
// Throws Error{internal} if the shape has another number of elements or x is a column view of several rows.
#pragma once

#include "kernels/tape.h"

namespace farsight {

Var reshape(Tape& tape, const Var& x, Shape shape);

}  // namespace farsight
