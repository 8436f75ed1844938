// SPDX-License-Identifier: Apache-2.0
// The losses of forecast heads, from raw outputs in normalised units to one number in the units of the targets.
//   head     [R, H * K] f32, on a device also bf16, maybe a column view: the K outputs of each of H steps, K fastest
//   targets  [R, H] f32;  observed u8 [R, H] or not defined() (all): targets with 0 may be NaN and count for nothing
//   mean, std [R] f32 of the window (instance_norm.h), or not defined(): 0 and 1
//   gamma, beta [C] of the type of the head, or null: of instance_norm, row r is of channel r % C; gamma must not be 0
// De-normalisation: location = (raw - beta) / gamma * std + mean, width = s / |gamma| * std. Loss of a target y:
//   mse        (y - location)^2                                                   K = 1: location
//   mae        |y - location|                                                     K = 1
//   huber      u^2 / 2 for |u| <= delta, else delta (|u| - delta / 2)             K = 1
//   quantile   mean over levels of max(tau u, (tau - 1) u), u = y - q_tau         K = number of levels
//   gaussian   -log density, s = softplus + 1e-6                                  K = 2: location, s
//   student_t  the same with nu = 2 + softplus degrees of freedom                 K = 3: location, s, nu
//   mixture    -log sum_k w_k density_k, w = softmax of the weights               K = sum over the components of:
//     gaussian 3: weight, location, s;  student_t 4: weight, location, s, nu;  fixed 2: weight, location, s is given
// Result: loss [1] f32 = scale * sum of the losses, with gradients to head, gamma and beta; and sums f64 [3], where it
// is computed: of the losses, and of squares and absolute values of y - point (the location; the level nearest to 0.5;
// the weighted mean of the locations).
// Everything between the fp32 inputs and the fp32 gradients is fp64, lgamma and digamma included (absolute error below
// 1e-13); sums are taken row by row and then over the rows: equal bits for any thread count.
// Gradients are computed here while the tape records, for a gradient of 1 of the loss (Error{internal} for another one
// on the CPU), and wait for backward: memory of the head once more.
// Throws Error{internal} for sizes and types that do not match and options that make no loss.
// Source: forecasting specification, section 5.3.
#pragma once

#include <vector>

#include "kernels/forecast_terms.h"
#include "kernels/tape.h"

namespace farsight {

struct MixtureComponent {
  MixtureKind kind = MixtureKind::gaussian;
  double scale = 1.0;  // s of a component of kind fixed
};

struct ForecastLossOptions {
  ForecastLossKind kind = ForecastLossKind::mse;
  double scale = 1.0;  // 1 / valid targets of the whole optimizer step
  double delta = 1.0;
  std::vector<double> levels;                // in (0, 1), at most kMaxQuantileLevels
  std::vector<MixtureComponent> components;  // at most kMaxMixtureComponents
};

// K.
int64_t forecast_outputs(const ForecastLossOptions& options);

struct ForecastTargets {
  Tensor values, observed;
  Tensor mean, std;
  Parameter* gamma = nullptr;
  Parameter* beta = nullptr;
};

struct ForecastLossResult {
  Var loss;
  Tensor sums;
};

ForecastLossResult forecast_loss(Tape& tape, const Var& head, const ForecastTargets& targets,
                                 const ForecastLossOptions& options);

}  // namespace farsight
