// SPDX-License-Identifier: Apache-2.0
// Windows of series normalised one by one, so that a model sees shapes and not levels.
//   mean = mean(x)    std = sqrt(var(x) + eps), var without Bessel's correction    x' = (x - mean) / std
// or, of kind last, with mean = the last observed x of the row and std = 1: what is forecast is the change since then.
//   y = x'            or with parameters gamma and beta [C]: y = x' gamma[r % C] + beta[r % C]
//   x [R, L] f32, maybe a column view: row r is a window of channel r % C (batch-major, channel fastest)
//   observed u8 [R, L] or not defined() (all): statistics are over values with 1; the others may be NaN, give y = 0
//     and have no gradient. A row without any: mean 0, std 1.
//   y [R, L] of `type` (f32; on a device also bf16), contiguous; mean, std [R] f32, to undo it with (forecast_loss.h).
// Statistics and the difference x - mean are taken in fp64 and carry no gradient: dx = dy gamma / std.
// Holds x, observed and the statistics until backward. gamma and beta have the type of y.
// Throws Error{internal} for sizes or types that do not match, and if only one of gamma and beta is given.
// Source: Kim et al. 2022, Reversible instance normalization (ICLR); the last value: Zeng et al. 2023
// (arXiv:2205.13504).
#pragma once

#include <cstdint>

#include "kernels/tape.h"

namespace farsight {

enum class InstanceNormKind : uint8_t { moments, last };

struct InstanceNormOptions {
  InstanceNormKind kind = InstanceNormKind::moments;
  Tensor observed;
  Parameter* gamma = nullptr;
  Parameter* beta = nullptr;
  float eps = 1e-5F;
  DType type = DType::f32;
};

struct InstanceNormed {
  Var normed;
  Tensor mean, std;
};

InstanceNormed instance_norm(Tape& tape, const Var& x, const InstanceNormOptions& options = {});

}  // namespace farsight
