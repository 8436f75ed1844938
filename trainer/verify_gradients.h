// SPDX-License-Identifier: Apache-2.0
// Gradients of a whole model against central differences of its loss.
//
// For every parameter tensor, and along each of a few directions u of length 1, gradient . u is compared with the
// derivative of the loss along u. Dropout stays on: its draws are a function of the position, so they repeat.
//
// Direction: half the gradient, each element times a draw from [0, 2), half white noise. Along white noise alone the
// derivative would be |g| / sqrt(n), lost in the rounding of the loss; along the gradient alone an element that is
// wrongly zero would not show.
// Step: Ridders' method, so that no single step decides. The first one is large (the loss moves by 1 %, or the tensor
// by 20 % of its norm, whichever is less); it is halved, Richardson's extrapolation removes the orders in between, and
// the entry of the table that agrees best with its neighbours is taken, with that disagreement as its error. The
// rounding of the loss, measured beforehand by nudging every weight by its last bit, adds rounding / step to the error.
// Tolerance: kGradientTolerance of the larger of |gradient . u| and 1e-4 of the longest gradient of the model (some
// gradients are zero in theory, key biases for one), plus three times the error. Correct fp32 gradients come out below
// 1e-4; a wrong factor, a lost term or a wrong mask are far above 1e-3.
//
// Source: Ridders 1982, "Accurate computation of F'(x) and F'(x)F''(x)"; floor: parallelism specification, section 22.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "trainer/layout_run.h"
#include "trainer/layout_trainer.h"

namespace farsight {

inline constexpr double kGradientTolerance = 1e-3;

// unclear: the loss is too rough for a measurement that could show an error of a few percent.
enum class Verdict : uint8_t { ok, unclear, wrong };

struct GradientRow {  // of the direction that came out worst
  std::string tensor;
  double measured = 0.0, expected = 0.0;
  double difference = 0.0;  // |measured - expected| / max(|expected|, floor)
  double error = 0.0;       // of the measurement, in the same unit
  Verdict verdict() const;
};

struct GradientReport {
  double loss = 0.0;
  double rounding = 0.0;  // of the loss, relative
  std::vector<GradientRow> rows;
};

using Progress = std::function<void(const std::string&)>;

// Of the current step of `trainer`, which runs on one rank and ends with the weights it began with. `gradients`, by
// name, are what is checked. Error{diverged} when the loss or a gradient is not finite.

GradientReport check_gradients(LayoutTrainer& trainer, const NamedTensors& gradients, int64_t directions,
                               const Progress& progress);

// How far rounding alone moves the gradients of the current step: the largest change of an element of each tensor when
// every weight of the model changes in its last bit, over a few such changes. Beyond 1e-6 of a gradient only where it
// is small against what it is summed from, zero in theory for one; there no two orders of summation agree any better.
// `gradients` as above; ends with the weights it began with.
std::map<std::string, double> gradient_rounding(LayoutTrainer& trainer, const NamedTensors& gradients);

// Derivative of f at 0 by Ridders' method from `step` on; f rounds by about `rounding`. Stops at an error of `goal`.
struct Derivative {
  double value = 0.0, error = 0.0;
};
Derivative derivative(const std::function<double(double)>& f, double step, double rounding, double goal);

}  // namespace farsight
