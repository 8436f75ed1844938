// SPDX-License-Identifier: Apache-2.0
// y[n] = x[n] + table[ids[n]]: learned vectors of positions or kinds on rows that are not looked up themselves.
//   x, y [N, C] contiguous; table [M, C] of the type of x; ids i32 [N], best on the host, where they are checked: ids
//   on a device are waited for
// Backward adds the rows of dy that meet in a row of the table in their order: equal bits for any thread count.
// Throws Error{data} for an id outside the table, naming the row, Error{internal} for sizes that do not match.
#pragma once

#include "kernels/tape.h"

namespace farsight {

Var add_table(Tape& tape, const Var& x, Parameter& table, const Tensor& ids);

}  // namespace farsight
