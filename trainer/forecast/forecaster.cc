// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/forecaster.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/rows.h"
#include "kernels/totals.h"
#include "parallel/placement.h"

namespace farsight {

Tensor target_rows(const Tensor& channels, const std::vector<int64_t>& targets) {
  if (!channels.defined()) return {};
  const int64_t samples = channels.dim(0), count = channels.dim(1), length = channels.dim(2);
  const auto rows = static_cast<int64_t>(targets.size());
  if (rows == count) return channels.view({samples * count, length});
  const Tensor out = Tensor::empty({samples * rows, length}, channels.dtype(), MemoryTag::data, Device::cpu);
  const int64_t bytes = length * size_of(channels.dtype());
  const auto* from = static_cast<const std::byte*>(channels.raw());
  auto* to = static_cast<std::byte*>(out.raw());
  for (int64_t s = 0; s < samples; ++s) {
    for (const int64_t c : targets) {
      std::memcpy(to, from + (s * count + c) * bytes, static_cast<size_t>(bytes));
      to += bytes;
    }
  }
  return out;
}

Forecaster::Forecaster(ForecastSpec spec, const ModelSharding& sharding)
    : spec_(std::move(spec)), sharding_(sharding) {}

Parameter* Forecaster::add(const std::string& name, const Shape& shape, Init init, bool adjoin) {
  placements_.push_back(replicated_weight());
  return &store_.add(name, parameter_slice(shape, placements_.back(), sharding_.mesh, sharding_.rank), init, adjoin);
}

Forecaster::LinearParameters Forecaster::add_linear(const std::string& name, int64_t out, int64_t in) {
  const Init init{Init::Kind::uniform, 1.0 / std::sqrt(static_cast<double>(in))};
  Parameter* const weight = add(name + ".weight", {out, in}, init);
  return {weight, add(name + ".bias", {out}, init)};
}

void Forecaster::add_instance_parameters() {
  if (!spec_.instance_norm || !spec_.instance_affine) return;
  gamma_ = add("instance_norm.weight", {spec_.target_count()}, {Init::Kind::constant, 1.0});
  beta_ = add("instance_norm.bias", {spec_.target_count()}, {Init::Kind::constant, 0.0});
}

ForecastHead Forecaster::forward(Tape& tape, Mesh& mesh, const MicroBatch& batch, const ModelPass& pass) {
  const WindowTensors& windows = batch.windows;
  Var x = tape.input(target_rows(windows.past, spec_.targets).to(current_device()));
  ForecastHead head;
  const DType type = store_.value_type();
  if (spec_.instance_norm) {
    InstanceNormOptions options;
    options.kind = spec_.norm_kind;
    const Tensor observed = target_rows(windows.past_observed, spec_.targets);
    if (observed.defined()) options.observed = observed.to(current_device());
    options.gamma = gamma_;
    options.beta = beta_;
    options.type = type;
    InstanceNormed normed = instance_norm(tape, x, options);
    x = normed.normed;
    head.mean = normed.mean;
    head.std = normed.std;
  } else if (type != DType::f32) {
    const Tensor rounded = Tensor::empty(x.shape(), type);
    copy_rows(x.value(), rounded);
    x = tape.input(rounded);
  }
  head.raw = body(tape, x, {mesh, batch, pass});
  return head;
}

ForecastLossResult Forecaster::run(Tape& tape, Mesh& mesh, const MicroBatch& batch, const ModelPass& pass) {
  const ForecastHead head = forward(tape, mesh, batch, pass);
  ForecastTargets targets;
  targets.values = target_rows(batch.windows.future, spec_.targets).to(current_device());
  targets.observed = target_rows(batch.windows.future_observed, spec_.targets).to(current_device());
  targets.mean = head.mean;
  targets.std = head.std;
  targets.gamma = gamma_;
  targets.beta = beta_;
  ForecastLossOptions options = spec_.loss;
  options.scale = pass.loss_scale;
  return forecast_loss(tape, head.raw, targets, options);
}

Var Forecaster::score(Tape& tape, Mesh& mesh, const MicroBatch& batch, const ModelPass& pass, const Tensor& totals) {
  const ForecastLossResult result = run(tape, mesh, batch, pass);
  for (int64_t i = 0; i < totals.numel(); ++i) add_total(result.sums.narrow(i, 1), totals.narrow(i, 1));
  return result.loss;
}

Var Forecaster::micro_batch_loss(Tape& tape, Mesh& mesh, const SequenceLayout& /*layout*/, const MicroBatch& batch,
                                 const ModelPass& pass, const ModelSums& sums) {
  return score(tape, mesh, batch, pass, sums.loss);
}

}  // namespace farsight
