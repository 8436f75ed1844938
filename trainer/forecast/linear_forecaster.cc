// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/linear_forecaster.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "kernels/concat.h"
#include "kernels/error.h"
#include "kernels/linear.h"
#include "kernels/moving_average.h"
#include "kernels/reshape.h"
#include "kernels/rows.h"
#include "kernels/scaled_sum.h"

namespace farsight {
namespace {

constexpr int64_t kTrendRows = 25;

}  // namespace

LinearForecaster::LinearForecaster(ForecastSpec spec, LinearForm form, bool individual, const ModelSharding& sharding)
    : Forecaster(std::move(spec), sharding), form_(form) {
  const ForecastSpec& s = this->spec();
  add_instance_parameters();
  const int64_t maps = individual ? s.target_count() : 1;
  for (int64_t i = 0; i < maps; ++i) {
    const std::string prefix = individual ? fmt::format("channels.{}.", i) : std::string();
    const auto map = [&](const char* name) { return add_linear(prefix + name, s.horizon * s.outputs(), s.lookback); };
    maps_.push_back(form == LinearForm::nlinear ? Maps{map("linear"), {}} : Maps{map("seasonal"), map("trend")});
  }
}

void LinearForecaster::set(const LinearSolution& solution) {
  const int64_t lookback = spec().lookback, horizon = spec().horizon;
  if (form_ != LinearForm::nlinear || maps_.size() != 1 || spec().outputs() != 1 || solution.lookback != lookback ||
      solution.horizon != horizon) {
    fail(ErrorKind::internal, "a linear solution for {} + {} rows, the model has {} + {}", solution.lookback,
         solution.horizon, lookback, horizon);
  }
  const Tensor weight = Tensor::empty({horizon, lookback}, DType::f32, MemoryTag::other, Device::cpu);
  const Tensor bias = Tensor::empty({horizon}, DType::f32, MemoryTag::other, Device::cpu);
  const auto at = [&](int64_t i, int64_t h) {
    return static_cast<float>(solution.weights[static_cast<size_t>(i * horizon + h)]);
  };
  for (int64_t h = 0; h < horizon; ++h) {
    for (int64_t i = 0; i < lookback; ++i) weight.data<float>()[h * lookback + i] = at(i, h);
    bias.data<float>()[h] = at(lookback, h);
  }
  copy_rows(weight.to(current_device()), maps_[0].first.weight->value);
  copy_rows(bias.to(current_device()), maps_[0].first.bias->value);
}

Var LinearForecaster::apply(Tape& tape, const Var& x, const Var& trend, const Maps& maps) const {
  const Var first = linear(tape, x, *maps.first.weight, maps.first.bias);
  if (!trend.defined()) return first;
  return scaled_sum(tape, first, linear(tape, trend, *maps.trend.weight, maps.trend.bias), 1.0F);
}

Var LinearForecaster::body(Tape& tape, const Var& x, const Body& /*context*/) {
  Var rest = x, trend;
  if (form_ == LinearForm::dlinear) {
    trend = moving_average(tape, x, kTrendRows);
    rest = scaled_sum(tape, x, trend, -1.0F);
  }
  if (maps_.size() == 1) return apply(tape, rest, trend, maps_[0]);
  // Channels side by side: the rows of one are a column view.
  const auto channels = static_cast<int64_t>(maps_.size());
  const int64_t samples = x.shape()[0] / channels, length = x.shape()[1];
  const std::vector<int64_t> sizes(maps_.size(), length);
  const auto split = [&](const Var& rows) {
    return rows.defined() ? tape.split_last(reshape(tape, rows, {samples, channels * length}), sizes)
                          : std::vector<Var>(maps_.size());
  };
  const std::vector<Var> rests = split(rest), trends = split(trend);
  std::vector<Var> outs;
  for (size_t c = 0; c < maps_.size(); ++c) outs.push_back(apply(tape, rests[c], trends[c], maps_[c]));
  const Var all = concat_last(tape, outs);
  return reshape(tape, all, {samples * channels, all.shape()[1] / channels});
}

}  // namespace farsight
