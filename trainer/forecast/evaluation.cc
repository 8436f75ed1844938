// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/evaluation.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "data/reader.h"
#include "kernels/error.h"
#include "kernels/rows.h"
#include "parallel/mesh.h"

namespace farsight {
namespace {

// f32 on the host.
Tensor on_host(const Tensor& tensor) {
  if (tensor.dtype() == DType::f32) return tensor.to(Device::cpu);
  const Tensor wide = Tensor::empty(tensor.shape());
  copy_rows(tensor, wide);
  return wide.to(Device::cpu);
}

}  // namespace

WindowForecaster::WindowForecaster(Forecaster& model, int64_t horizon)
    : model_(model),
      horizon_(horizon),
      reader_(model.forecast_spec().loss, forecast_levels(model.forecast_spec().loss)) {
  const int64_t most = model.forecast_spec().horizon;
  if (horizon < 1 || horizon > most) {
    fail(ErrorKind::config, "a horizon of {} rows; the model forecasts 1 to {}", horizon, most);
  }
}

void WindowForecaster::each_step(const MicroBatch& batch, const std::function<void(const Step&)>& visit) {
  const ForecastSpec& spec = model_.forecast_spec();
  const auto self = make_self_communicator();
  ParallelOptions alone;
  alone.data = 1;
  Mesh mesh(*self, alone);
  ModelPass pass;
  pass.training = false;
  Tape tape(/*recording=*/false);
  const ForecastHead head = model_.forward(tape, mesh, batch, pass);
  const Tensor raw = on_host(head.raw.value());
  const Tensor mean = head.mean.defined() ? head.mean.to(Device::cpu) : Tensor();
  const Tensor std = head.std.defined() ? head.std.to(Device::cpu) : Tensor();
  const Tensor gamma = model_.gamma() != nullptr ? on_host(model_.gamma()->value) : Tensor();
  const Tensor beta = model_.beta() != nullptr ? on_host(model_.beta()->value) : Tensor();
  const int64_t channels = spec.target_count(), outputs = reader_.outputs();
  for (size_t j = 0; j < batch.sample_ids.size(); ++j) {
    if (batch.sample_ids[j] == kNoSample) continue;
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t row = static_cast<int64_t>(j) * channels + c;
      HeadScale scale;
      if (mean.defined()) scale.mean = static_cast<double>(mean.data<float>()[row]);
      if (std.defined()) scale.std = static_cast<double>(std.data<float>()[row]);
      if (gamma.defined()) scale.gamma = static_cast<double>(gamma.data<float>()[c]);
      if (beta.defined()) scale.beta = static_cast<double>(beta.data<float>()[c]);
      for (int64_t h = 0; h < horizon_; ++h) {
        const float* at = raw.data<float>() + row * raw.cols() + h * outputs;
        visit({static_cast<int64_t>(j),
               c,
               h,
               {at, static_cast<size_t>(outputs)},
               scale,
               static_cast<size_t>(c * horizon_ + h),
               c + 1 == channels && h + 1 == horizon_});
      }
    }
  }
}

void WindowForecaster::run(const MicroBatch& batch, const std::function<void(int64_t, const ForecastValues&)>& visit) {
  const auto cells = static_cast<size_t>(model_.forecast_spec().target_count() * horizon_);
  const size_t levels = reader_.levels().size();
  ForecastValues values;
  values.point.resize(cells);
  values.quantiles.resize(cells * levels);
  each_step(batch, [&](const Step& at) {
    const auto quantiles = std::span(values.quantiles).subspan(at.cell * levels, levels);
    values.point[at.cell] = reader_.read(at.raw, at.scale, quantiles);
    if (at.last) visit(at.row, values);
  });
}

void WindowForecaster::draw(const MicroBatch& batch, const std::function<double(int64_t, int64_t, int64_t)>& uniform,
                            const std::function<void(int64_t, std::span<const double>)>& visit) {
  std::vector<double> draws(static_cast<size_t>(model_.forecast_spec().target_count() * horizon_));
  each_step(batch, [&](const Step& at) {
    draws[at.cell] = reader_.draw(at.raw, at.scale, uniform(at.row, at.channel, at.step));
    if (at.last) visit(at.row, draws);
  });
}

ForecastEvaluation evaluate_forecaster(
    Forecaster& model, SeriesWindows& train, SeriesWindows& windows, const EvaluationOptions& options,
    Communicator& world,
    const std::function<void(int64_t sample, const ForecastValues&, const ForecastTruth&)>& on_window) {
  const WindowOptions& shape = windows.options();
  WindowForecaster forecaster(model, shape.horizon);
  MetricsShape metrics{.channels = static_cast<int64_t>(shape.targets.size()), .horizon = shape.horizon};
  metrics.levels = forecaster.levels();
  for (const int64_t c : shape.targets) metrics.scale.push_back(shape.scale[static_cast<size_t>(c)]);
  metrics.mase_scale = mase_scales(windows.files(), shape.targets, options.baselines.season);
  ForecastEvaluation result;
  result.windows = evaluated_windows(windows.samples(), options.baselines.drop_last);
  result.left_out = windows.samples() - result.windows;
  ForecastMetrics own(metrics);
  History history(windows, options.baselines.season);
  StreamPlan plan;
  plan.shuffle = Shuffle::none;
  plan.data_ranks = world.size();
  plan.data_rank = world.rank();
  plan.micro_batch = options.batch;
  plan.global_batch = options.batch * world.size();
  plan.sample_limit = result.windows;
  // The stream reads in its own thread, from copies of the open files that nobody else uses.
  BatchStream stream(std::make_unique<SeriesWindows>(windows.reopened()), plan);
  while (const StepBatch* step = stream.next()) {
    for (const MicroBatch& micro : step->micro) {
      forecaster.run(micro, [&](int64_t j, const ForecastValues& forecast) {
        const int64_t sample = micro.sample_ids[static_cast<size_t>(j)];
        history.load(sample);
        own.add(forecast, history.truth());
        if (on_window) on_window(sample, forecast, history.truth());
      });
    }
  }
  own.reduce(world);
  std::array<double, 1> crossings{static_cast<double>(forecaster.crossings())};
  world.all_reduce(std::span<double>(crossings), ReduceOp::sum);
  result.crossings = crossings[0];
  result.rows.push_back({"model", std::move(own)});
  for (BaselineResult& baseline : evaluate_baselines(train, windows, options.baselines, world)) {
    result.rows.push_back({to_string(baseline.baseline), std::move(baseline.metrics)});
  }
  return result;
}

}  // namespace farsight
