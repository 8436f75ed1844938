// SPDX-License-Identifier: Apache-2.0
// From the raw outputs of a forecaster to a forecast in z units: a point, and quantiles where the head has them. On the
// host, in double.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/forecast_loss.h"
#include "trainer/forecast/forecast_metrics.h"

namespace farsight {

// Levels that distributions are evaluated at: 0.1 .. 0.9, and 0.025 and 0.975 for the 95 % interval.
std::vector<double> usual_levels();
// Levels that forecasts with this loss have: those of a quantile loss, usual_levels() for distributions, none for a
// point.
std::vector<double> forecast_levels(const ForecastLossOptions& loss);

// How the head of one window and channel is de-normalised: location -> (location - beta) / gamma * std + mean.
struct HeadScale {
  double mean = 0.0, std = 1.0;
  double gamma = 1.0, beta = 0.0;
};

// Turns K raw outputs of one step into its point and quantiles. Quantiles of a quantile head are sorted; `crossings`
// counts the neighbours that were not in order before.
class HeadReader {
 public:
  HeadReader(ForecastLossOptions loss, std::vector<double> levels);

  int64_t outputs() const { return outputs_; }
  const std::vector<double>& levels() const { return levels_; }
  // raw [K]; quantiles [levels] or empty for none. Returns the point.
  double read(std::span<const float> raw, const HeadScale& scale, std::span<double> quantiles);
  int64_t crossings() const { return crossings_; }
  // The draw that belongs to a uniform number in (0, 1), raw [K]: of a distribution, with tails of 0.1 % cut off; of a
  // quantile head linear between its levels, and nothing beyond the outer ones. Of a point the point.
  double draw(std::span<const float> raw, const HeadScale& scale, double uniform) const;

 private:
  ForecastLossOptions loss_;
  std::vector<double> levels_;
  int64_t outputs_;
  size_t middle_ = 0;  // of the levels: the one nearest to 0.5
  int64_t crossings_ = 0;
};

}  // namespace farsight
