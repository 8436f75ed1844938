// SPDX-License-Identifier: Apache-2.0
// A forecaster judged over every window of a split once, its baselines beside it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm.h"
#include "trainer/forecast/baselines.h"
#include "trainer/forecast/forecast_values.h"
#include "trainer/forecast/forecaster.h"

namespace farsight {

// Forecasts of the windows of a stream, one after the other, in z units.
class WindowForecaster {
 public:
  // `horizon` steps of each forecast, at most those of the model. On the device of this thread.
  WindowForecaster(Forecaster& model, int64_t horizon);

  const std::vector<double>& levels() const { return reader_.levels(); }
  int64_t crossings() const { return reader_.crossings(); }
  // visit(j, forecast) for each row j of the batch that is not padding.
  void run(const MicroBatch& batch, const std::function<void(int64_t, const ForecastValues&)>& visit);
  // One draw of every step instead: visit(j, draws [C, H]). uniform(j, c, h) in (0, 1).
  void draw(const MicroBatch& batch, const std::function<double(int64_t, int64_t, int64_t)>& uniform,
            const std::function<void(int64_t, std::span<const double>)>& visit);

 private:
  struct Step {
    int64_t row, channel, step;  // of the batch, of the targets, of the horizon
    std::span<const float> raw;
    const HeadScale& scale;
    size_t cell;  // in [C, H]
    bool last;    // of its row
  };
  void each_step(const MicroBatch& batch, const std::function<void(const Step&)>& visit);

  Forecaster& model_;
  int64_t horizon_;
  HeadReader reader_;
};

struct EvaluationOptions {
  BaselineOptions baselines;
  int64_t batch = 64;   // windows computed at once
  int64_t horizon = 0;  // 0: the model's
};

struct NamedMetrics {
  std::string name;  // "model", "repeat_last" ...
  ForecastMetrics metrics;
};

struct ForecastEvaluation {
  std::vector<NamedMetrics> rows;  // the model first
  int64_t windows = 0;             // evaluated
  int64_t left_out = 0;            // by drop_last
  double crossings = 0.0;          // quantiles out of order before sorting, over all windows
};

// `windows` must have the look-back of the model and options.horizon; `train` is for the linear baseline. on_window
// (may be empty) sees each forecast of this rank. Collective over `world`, whose ranks share the windows; the same
// result on every rank.
ForecastEvaluation evaluate_forecaster(
    Forecaster& model, SeriesWindows& train, SeriesWindows& windows, const EvaluationOptions& options,
    Communicator& world,
    const std::function<void(int64_t sample, const ForecastValues&, const ForecastTruth&)>& on_window);

}  // namespace farsight
