// SPDX-License-Identifier: Apache-2.0
// Linear forecasters: one linear map from the look-back to the horizon, shared by the channels or one for each.
//   nlinear   y = W (x - last) + b + last
//   dlinear   y = W_s (x - trend) + b_s + W_t trend + b_t, trend = moving average over 25 rows
// Parameters: linear.weight [H K, L], linear.bias (nlinear); seasonal.*, trend.* (dlinear); with `individual` one of
// each per target channel, named by its place: channels.N.linear.weight ...
// Source: Zeng et al. 2023 (arXiv:2205.13504); forecasting specification, section 4.2.
#pragma once

#include <vector>

#include "trainer/config.h"
#include "trainer/forecast/forecaster.h"
#include "trainer/forecast/linear_solution.h"

namespace farsight {

class LinearForecaster : public Forecaster {
 public:
  LinearForecaster(ForecastSpec spec, LinearForm form, bool individual, const ModelSharding& sharding = {});

  // The closed-form solution as the weights of nlinear, which must be here whole.
  void set(const LinearSolution& solution);

 protected:
  Var body(Tape& tape, const Var& x, const Body& context) override;

 private:
  struct Maps {
    LinearParameters first, trend;  // trend: of dlinear
  };
  Var apply(Tape& tape, const Var& x, const Var& trend, const Maps& maps) const;

  LinearForm form_;
  std::vector<Maps> maps_;  // one, or one per target channel
};

}  // namespace farsight
