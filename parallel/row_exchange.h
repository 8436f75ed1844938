// SPDX-License-Identifier: Apache-2.0
// Rows of activations on their way between the tensor ranks: the two exchanges that the operations of tensor
// parallelism are made of, started early and waited for late. See tensor_parallel.h for what a TensorGroup is.
#pragma once

#include "kernels/tape.h"
#include "kernels/tensor.h"
#include "parallel/comm.h"
#include "parallel/tensor_parallel.h"

namespace farsight {

// The rows of all ranks. Without group.sequence every rank has them already: nothing moves.
class RowGathering {
 public:
  // own: contiguous [row_count, C]; stays alive until wait() has returned.
  RowGathering(const TensorGroup& group, const Tensor& own);
  const Tensor& wait();  // [rows, C]

 private:
  Tensor rows_;
  RequestPtr request_;
};

// The own rows of the sum of `partial` [rows, C] over the ranks, in rank order. `partial` is consumed: without
// group.sequence the sum is formed in its memory.
class RowReduction {
 public:
  RowReduction(const TensorGroup& group, const Tensor& partial);
  const Tensor& wait();  // [row_count, C]

 private:
  Tensor partial_, own_;
  RequestPtr request_;
};

}  // namespace farsight
