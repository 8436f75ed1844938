// SPDX-License-Identifier: Apache-2.0
// Joins the parts of a training loss into the one scalar that backward starts from.
#pragma once

#include <span>

#include "kernels/tape.h"

namespace farsight {

struct LossTerm {
  Var values;    // any shape
  float weight;  // of the sum of all elements
};

// root [1] = sum over terms of weight * (sum of the elements). Sums in fp64. The gradient of every element is its
// weight: backward must start from the root, with 1 (on the CPU Error{internal} otherwise). Terms without gradient only
// add to the value. Does not wait for a device.
Var weighted_sum(Tape& tape, std::span<const LossTerm> terms);

}  // namespace farsight
