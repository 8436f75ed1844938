// SPDX-License-Identifier: Apache-2.0
// Values side by side in one contiguous tensor, the reverse of Tape::split_last. Holds nothing until backward.
#pragma once

#include <span>

#include "kernels/tape.h"

namespace farsight {

// Parts [.., C1], [.., C2], ... of one type and the same leading dimensions become [.., C1 + C2 + ...]. Parts may be
// column views. Throws Error{internal} without parts and for leading dimensions, types or devices that differ.
Var concat_last(Tape& tape, std::span<const Var> parts);

// a [B, N1, D] and b [B, N2, D] become [B, N1 + N2, D], sample by sample; both contiguous. Errors as above.
Var concat_tokens(Tape& tape, const Var& a, const Var& b);

}  // namespace farsight
