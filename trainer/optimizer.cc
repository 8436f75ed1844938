// SPDX-License-Identifier: Apache-2.0
#include "trainer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>
#include <utility>

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

Optimizer::Optimizer(ParameterShards& shards, const OptimConfig& config) : shards_(shards), config_(config) {
  for (const auto& piece : shards.pieces()) {
    std::vector<OptimizerRange> ranges;
    for (const auto& p : shards.store().parameters()) {
      const int64_t begin = std::max(p.offset, piece.range.begin);
      const int64_t end = std::min(p.offset + p.numel(), piece.range.end);
      if (begin < end) ranges.push_back({begin - piece.range.begin, end - begin, 1.0F, p.decay});
    }
    ranges_.push_back(std::move(ranges));
  }
  const bool adam = config.name == OptimizerChoice::adamw;
  const Shape shape{shards.packed_elements()};
  if (adam || config.momentum != 0.0) first_ = Tensor::zeros(shape, DType::f32, MemoryTag::optimizer);
  if (adam) second_ = Tensor::zeros(shape, DType::f32, MemoryTag::optimizer);
}

void Optimizer::update(double rate, const Tensor& gate, int64_t step) {
  const AdamWStep adam{.rate = rate,
                       .beta1 = config_.beta1,
                       .beta2 = config_.beta2,
                       .eps = config_.eps,
                       .weight_decay = config_.weight_decay,
                       .step = step};
  const SgdStep plain{.rate = rate, .momentum = config_.momentum, .weight_decay = config_.weight_decay};
  for (size_t i = 0; i < ranges_.size(); ++i) {
    const StatePiece& piece = shards_.pieces()[i];
    const auto part = [&](const Tensor& state) {
      return state.defined() ? state.narrow(piece.packed, piece.range.count()) : Tensor();
    };
    const Tensor values = shards_.values(piece), gradients = shards_.gradients(piece);
    if (config_.name == OptimizerChoice::adamw) {
      adamw(values, gradients, part(first_), part(second_), ranges_[i], adam, shards_.rounded(piece), gate);
    } else {
      sgd(values, gradients, part(first_), ranges_[i], plain, shards_.rounded(piece), gate);
    }
  }
}

std::vector<Optimizer::State> Optimizer::state() const {
  std::vector<State> out;
  if (first_.defined()) out.push_back({"m", first_});
  if (second_.defined()) out.push_back({"v", second_});
  return out;
}

}  // namespace farsight
