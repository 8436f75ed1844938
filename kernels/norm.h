// SPDX-License-Identifier: Apache-2.0
// RMS and layer normalisation, fused with the residual addition (and the dropout of the branch) that precedes it.
//   rms:   y = r * rstd * w           rstd = 1 / sqrt(mean(r^2) + eps)
//   layer: y = (r - mean) * rstd * w + b     rstd = 1 / sqrt(var(r) + eps), var without Bessel's correction
// Statistics are over one group of weight.numel() columns; rows of several groups (one per attention head: qk-norm) are
// normalised group by group with the same weight. Row sums are accumulated in fp32 lanes and reduced once.
// Rows may be column views. Holds the new residual and the row statistics until backward. Gradients
// of the weights are summed over fixed blocks of rows: equal bits for any thread count.
// Throws Error{internal} for sizes that do not match, and for a bias with rms.
// Source: Zhang & Sennrich 2019 (arXiv:1910.07467), Ba et al. 2016 (arXiv:1607.06450).
#pragma once

#include "kernels/dropout.h"
#include "kernels/tape.h"

namespace farsight {

enum class NormKind : uint8_t { rms, layer };

struct NormResidual {
  Var normed;    // contiguous
  Var residual;  // residual + dropout(x); the argument itself when x is undefined
};

// x: the output of a branch, or undefined. Its value is not needed by backward: callers may x.drop_value() afterwards.
// dropout acts on x only and may be null.
NormResidual norm_residual(Tape& tape, const Var& x, const Var& residual, Parameter& weight, Parameter* bias,
                           NormKind kind, float eps, const DropoutSite* dropout = nullptr);

// The norm alone.
Var norm(Tape& tape, const Var& x, Parameter& weight, Parameter* bias, NormKind kind, float eps);

}  // namespace farsight
