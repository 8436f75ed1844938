// SPDX-License-Identifier: Apache-2.0
// Gated activation: y = silu(gate) * up, silu(a) = a / (1 + e^-a).
//   gate_up [N, 2F] fp32: the gate columns, then the up columns (one linear_group); y [N, F] contiguous.
// Holds gate_up until backward. Error{internal} for an odd number of columns.
// Source: Shazeer 2020 (arXiv:2002.05202).
#pragma once

#include "kernels/tape.h"

namespace farsight {

Var swiglu(Tape& tape, const Var& gate_up);

}  // namespace farsight
