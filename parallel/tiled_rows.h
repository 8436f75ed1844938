// SPDX-License-Identifier: Apache-2.0
// A computation on rows, done a few rows at a time and again in backward: what it holds in between (the hidden layer of
// an MLP) never exists for all rows. Gathers the rows of the tensor ranks before and sums over them behind, like
// column_linear and row_linear with the computation in between.
// Source: Rasley et al. 2025 (arXiv:2506.13996), tiled MLP.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/tape.h"
#include "parallel/tensor_parallel.h"

namespace farsight {

// rows [n, C] -> [n, width], row by row: row i of the result depends on row i only. A pure function of its argument and
// the parameters, without messages.
using RowFunction = std::function<Var(Tape&, const Var& rows)>;

// y [row_count, width] = sum over tensor ranks of compute(gather(x)), + bias once (null: none). parameters: all that
// `compute` uses. At most chunk_rows rows at a time (>= 1). Collective over the tensor ranks, and so is backward.
// Gradients of the parameters are accumulated chunk by chunk: equal to the undivided ones up to rounding.
Var tiled_rows(Tape& tape, const TensorGroup& group, const Var& x, int64_t chunk_rows, int64_t width,
               const std::vector<Parameter*>& parameters, Parameter* bias, RowFunction compute);

}  // namespace farsight
