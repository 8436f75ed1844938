// SPDX-License-Identifier: Apache-2.0
// The operations of tensor parallelism. Weights are sharded over the ranks of the tensor axis: column weights by output
// rows, row weights by input columns. Between them a rank computes with its share of the features and all rows.
//
// With sequence = true the activations between blocks are sharded too, by rows: rank p holds a balanced contiguous run
// of the B * n rows. Inputs of column products are gathered, outputs of row products are reduce-scattered; gathered
// rows are not kept for backward but gathered again. With sequence = false every rank holds all rows, outputs of row
// products are summed over the ranks.
//
//                    forward                           backward
//   column_linear    all-gather x; x W^T + b           gather x again; dy W -> reduce-scatter; dy^T x
//   row_linear       x W^T -> reduce-scatter; + b      all-gather dy; dy W; dy^T x
//   without sequence: identity / all-reduce forward, all-reduce / identity backward
//
// All are collective over the tensor ranks, forward and backward, and must be called alike on all of them. Sums are in
// rank order. Tensors fp32 [rows, columns], contiguous. Throws Error{internal} for sizes that do not match.
// Source: Shoeybi et al. 2019 (arXiv:1909.08053), Korthikanti et al. 2022 (arXiv:2205.05198).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tape.h"
#include "parallel/comm.h"

namespace farsight {

struct TensorGroup {
  Communicator* comm = nullptr;
  bool sequence = true;
  int64_t rows = 0;  // B * n, all ranks together

  // First row and number of rows that a rank holds between blocks.
  int64_t first_row(int rank) const { return sequence ? rows * rank / comm->size() : 0; }
  int64_t row_count(int rank) const { return sequence ? rows * (rank + 1) / comm->size() - first_row(rank) : rows; }
};

// y [rows, sum of local out] = gather(x) W^T + b; weights and biases adjoin as in linear_group.
Var column_linear(Tape& tape, const TensorGroup& group, const Var& x, std::span<Parameter* const> weights,
                  std::span<Parameter* const> biases);

// y [row_count, out] = sum over ranks of x W^T, + b once; bias [out] replicated, may be null.
Var row_linear(Tape& tape, const TensorGroup& group, const Var& x, Parameter& weight, Parameter* bias);

// All rows of x on every rank; backward sums the gradients of all ranks. For consumers that produce partial gradients
// (the sharded language-model head).
Var gather_rows(Tape& tape, const TensorGroup& group, const Var& x);

// The rank's rows of the sum of x [rows, C] over the ranks; backward gathers. For partial values (the sharded
// embedding).
Var scatter_sum(Tape& tape, const TensorGroup& group, const Var& x);

}  // namespace farsight
