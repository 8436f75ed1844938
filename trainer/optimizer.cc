// SPDX-License-Identifier: Apache-2.0
#include "trainer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>
#include <utility>

#include "kernels/adamw.h"
#include "kernels/error.h"
#include "kernels/running_average.h"
#include "kernels/sgd.h"

namespace farsight {

namespace {

// From 1 to 0 along half a cosine.
double half_cosine(double done) { return 0.5 * (1.0 + std::cos(std::numbers::pi * std::clamp(done, 0.0, 1.0))); }

double one_cycle(const OptimConfig& optim, double step, double total) {
  constexpr double kStart = 1.0 / 25.0, kEnd = kStart / 1e4;
  const double rise = std::max(1.0, optim.pct_start * total - 1.0), fall = std::max(1.0, total - rise - 1.0);
  const double low = step <= rise ? kStart : kEnd;
  const double left = step <= rise ? half_cosine(1.0 - step / rise) : half_cosine((step - rise) / fall);
  return optim.lr * (low + (1.0 - low) * left);
}

double by_epoch(const OptimConfig& optim, int64_t epoch) {  // from 1
  constexpr double kFirst = 1.0 / 25.0;
  if (optim.schedule == ScheduleChoice::type1) return optim.lr * std::exp2(1.0 - static_cast<double>(epoch));
  if (optim.schedule == ScheduleChoice::type3_onecycle && epoch == 1) return optim.lr * kFirst;
  return optim.lr * std::pow(0.9, static_cast<double>(std::max<int64_t>(0, epoch - 2)));
}

}  // namespace

double learning_rate(const OptimConfig& optim, int64_t step, const RateSpan& span) {
  if (step < span.warmup) return optim.lr * static_cast<double>(step + 1) / static_cast<double>(span.warmup);
  const double length = static_cast<double>(std::max<int64_t>(1, span.total - span.warmup));
  const auto since = static_cast<double>(step - span.warmup);
  const double done = std::clamp(since / length, 0.0, 1.0);
  switch (optim.schedule) {
    case ScheduleChoice::constant:
      return optim.lr;
    case ScheduleChoice::linear:
      return optim.min_lr + (optim.lr - optim.min_lr) * (1.0 - done);
    case ScheduleChoice::cosine:
      return optim.min_lr + (optim.lr - optim.min_lr) * half_cosine(done);
    case ScheduleChoice::onecycle:
      return one_cycle(optim, since, length);
    case ScheduleChoice::type1:
    case ScheduleChoice::type3:
    case ScheduleChoice::type3_onecycle:
      break;
  }
  return by_epoch(optim, 1 + static_cast<int64_t>(static_cast<double>(step) / std::max(1.0, span.epoch)));
}

Optimizer::Optimizer(ParameterShards& shards, const OptimConfig& config) : shards_(shards), config_(config) {
  for (const auto& piece : shards.pieces()) {
    std::vector<OptimizerRange> ranges, averages;
    for (const auto& p : shards.store().parameters()) {
      const int64_t begin = std::max(p.offset, piece.range.begin);
      const int64_t end = std::min(p.offset + p.numel(), piece.range.end);
      if (begin >= end) continue;
      (p.average > 0.0 ? averages : ranges).push_back({begin - piece.range.begin, end - begin, 1.0F, p.decay});
    }
    ranges_.push_back(std::move(ranges));
    averages_.push_back(std::move(averages));
  }
  for (const auto& p : shards.store().parameters()) {
    if (p.average <= 0.0) continue;
    if (has_averages_ && p.average != momentum_) fail(ErrorKind::internal, "running averages of several momenta");
    has_averages_ = true;
    momentum_ = p.average;
  }
  const bool adam = config.name == OptimizerChoice::adamw;
  const Shape shape{shards.packed_elements()};
  if (adam || config.momentum != 0.0) first_ = Tensor::zeros(shape, DType::f32, MemoryTag::optimizer);
  if (adam) second_ = Tensor::zeros(shape, DType::f32, MemoryTag::optimizer);
}

void Optimizer::update_averages(size_t piece, const Tensor& open) {
  if (averages_[piece].empty()) return;
  const StatePiece& state = shards_.pieces()[piece];
  running_average(shards_.values(state), shards_.gradients(state), averages_[piece], momentum_, shards_.rounded(state),
                  open);
}

void Optimizer::update(double rate, const Tensor& gate, const Tensor& open, int64_t step) {
  const AdamWStep adam{.rate = rate,
                       .beta1 = config_.beta1,
                       .beta2 = config_.beta2,
                       .eps = config_.eps,
                       .weight_decay = config_.weight_decay,
                       .step = step};
  const SgdStep plain{.rate = rate, .momentum = config_.momentum, .weight_decay = config_.weight_decay};
  for (size_t i = 0; i < ranges_.size(); ++i) {
    update_averages(i, open);
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
