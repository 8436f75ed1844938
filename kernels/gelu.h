// SPDX-License-Identifier: Apache-2.0
// y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), the form of GPT-2.
//   x [.., F] fp32, may be a column view; y contiguous. Holds x until backward.
// Source: Hendrycks & Gimpel 2016 (arXiv:1606.08415).
#pragma once

#include "kernels/tape.h"

namespace farsight {

Var gelu(Tape& tape, const Var& x);

}  // namespace farsight
