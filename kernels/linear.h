// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b, the product of the model with its weights.
//   x [.., in] fp32, may be a column view;  W [out, in];  b [out] or null;  y [.., out] contiguous.
// Backward: dx += dy W, dW += dy^T x straight into Parameter::grad, db += column sums of dy.
// Holds x until backward. Deterministic for a fixed thread count.
// Throws Error{internal} for sizes that do not match.
#pragma once

#include <span>

#include "kernels/tape.h"

namespace farsight {

struct LinearBlocks;

Var linear(Tape& tape, const Var& x, Parameter& weight, Parameter* bias = nullptr);

// Several weights on one x as one product: y [.., sum of out_i], the columns in the order given. The weights must
// adjoin in the parameter slab (ParameterStore::add with adjoin), and so must the biases (empty = none);
// Error{internal} otherwise. Take the parts with Tape::split_last.
Var linear_group(Tape& tape, const Var& x, std::span<Parameter* const> weights, std::span<Parameter* const> biases);

// For operations that compute y = x W^T + b in their own way: records its backward for `out`, a variable made from x.
void record_linear(Tape& tape, const Var& x, const Var& out, const LinearBlocks& blocks);

}  // namespace farsight
