// SPDX-License-Identifier: Apache-2.0
// y = gelu(x U^T + a) D^T + b, the MLP of GPT-2 (gelu.h, linear.h).
//   x [.., in];  U [hidden, in];  a [hidden] or null;  D [out, hidden];  b [out] or null;  y [.., out] contiguous
// Holds x and the hidden layer before and after GELU until backward.
// In bf16 on a device, where the widths are multiples of 8, rows of x begin at multiples of 16 bytes and the library
// has the products, GELU and its derivative are part of the products beside them (matmul_gelu), and backward holds no
// gradient of GELU's output. Else, as always on the CPU, it is linear, gelu and linear; the device notes which and why.
// The gradients of D and b are complete, and reported, before backward comes to U and a.
// Throws Error{internal} for sizes that do not match.
#pragma once

#include "kernels/tape.h"

namespace farsight {

struct GeluMlp {
  Parameter& up;
  Parameter* up_bias;  // null: none, and so below
  Parameter& down;
  Parameter* down_bias;
};

Var gelu_mlp(Tape& tape, const Var& x, const GeluMlp& mlp);

}  // namespace farsight
