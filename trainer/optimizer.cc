// SPDX-License-Identifier: Apache-2.0
#include "trainer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/adamw.h"
#include "kernels/sgd.h"

namespace farsight {

double learning_rate(const OptimConfig& optim, int64_t step, int64_t warmup, int64_t total) {
  if (step < warmup) return optim.lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (optim.schedule == ScheduleChoice::constant) return optim.lr;
  const double span = static_cast<double>(std::max<int64_t>(1, total - warmup));
  const double done = std::clamp(static_cast<double>(step - warmup) / span, 0.0, 1.0);
  const double left =
      optim.schedule == ScheduleChoice::linear ? 1.0 - done : 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return optim.min_lr + (optim.lr - optim.min_lr) * left;
}

Optimizer::Optimizer(ParameterStore& store, const OptimConfig& config) : store_(store), config_(config) {
  for (const auto& p : store.parameters()) ranges_.push_back({p.offset, p.value.numel(), 1.0F, p.decay});
  const bool adam = config.name == OptimizerChoice::adamw;
  if (adam || config.momentum != 0.0) first_ = Tensor::zeros({store.slab_elements()}, DType::f32, MemoryTag::optimizer);
  if (adam) second_ = Tensor::zeros({store.slab_elements()}, DType::f32, MemoryTag::optimizer);
}

void Optimizer::update(double rate, double clip_factor, int64_t step) {
  const auto values = store_.values().span<float>();
  const auto gradients = store_.gradients().span<float>();
  if (config_.name == OptimizerChoice::adamw) {
    adamw(values, gradients, first_.span<float>(), second_.span<float>(), ranges_,
          {.rate = rate,
           .beta1 = config_.beta1,
           .beta2 = config_.beta2,
           .eps = config_.eps,
           .weight_decay = config_.weight_decay,
           .gradient_scale = clip_factor,
           .step = step});
    return;
  }
  sgd(values, gradients, first_.defined() ? first_.span<float>() : std::span<float>{}, ranges_,
      {.rate = rate,
       .momentum = config_.momentum,
       .weight_decay = config_.weight_decay,
       .gradient_scale = clip_factor});
}

Tensor Optimizer::view_of(const Tensor& slab, const Parameter& parameter) const {
  return slab.narrow(parameter.offset, parameter.value.numel()).view(parameter.value.shape());
}

std::vector<Optimizer::StateTensor> Optimizer::state() const {
  std::vector<StateTensor> out;
  for (const auto& p : store_.parameters()) {
    if (first_.defined()) out.push_back({"optim.m/" + p.name, view_of(first_, p)});
    if (second_.defined()) out.push_back({"optim.v/" + p.name, view_of(second_, p)});
  }
  return out;
}

}  // namespace farsight
