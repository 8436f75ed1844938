// SPDX-License-Identifier: Apache-2.0
// Batch normalisation over the rows of all ranks that share a batch, fused with the residual addition (and the dropout
// of the branch) that precedes it.
//   r = residual + dropout(x)      y = (r - mean) / sqrt(var + eps) * weight + bias      columns one by one
//   x (may be undefined), residual [N, C] f32, on a device also bf16, maybe column views; y contiguous
//   weight, bias [C] of their type; running_mean, running_var [C], on a device f32 or bf16
// Training: mean and var (without Bessel's correction) are those of all rows. The running averages are not read; as
// their "gradients" backward delivers this rank's share, so that the sum over the ranks is the mean, and the unbiased
// variance, of the batch; whoever updates parameters makes averages of them. Otherwise running_mean and running_var are
// used and constant.
// Sums are fp64: blocks of rows with their own means and centred squares, joined in order, so that neither an offset of
// the columns nor the number of threads changes digits. Holds r until backward.
// Throws Error{internal} for sizes and types that do not match.
// Source: Ioffe & Szegedy 2015 (arXiv:1502.03167); joining means and squares: Chan, Golub & LeVeque 1983.
#pragma once

#include <functional>

#include "kernels/dropout.h"
#include "kernels/tape.h"

namespace farsight {

struct BatchNormOptions {
  float eps = 1e-5F;
  bool training = true;
  int64_t rows = 0;  // of all ranks; 0: this rank has them all
  // Replaces a small contiguous f64 tensor by its sum over the ranks, where the rows are. Empty for one rank. In
  // training it is called twice by forward (again where that is recomputed) and once by backward, on a rank without
  // rows, too.
  std::function<void(const Tensor&)> all_reduce_sum;
};

struct BatchNormParameters {
  Parameter& weight;
  Parameter& bias;
  Parameter& running_mean;
  Parameter& running_var;
};

// x: the output of a branch, or undefined. Its value is not needed by backward: callers may x.drop_value() afterwards.
// dropout acts on x only and may be null.
Var batch_norm(Tape& tape, const Var& x, const Var& residual, const BatchNormParameters& parameters,
               const BatchNormOptions& options = {}, const DropoutSite* dropout = nullptr);

}  // namespace farsight
