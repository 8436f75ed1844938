// SPDX-License-Identifier: Apache-2.0
// The optimizer of a run: its kind and constants from the configuration, its state in flat slabs beside the parameters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/optimizer_range.h"
#include "kernels/tensor.h"
#include "parallel/parameter_shards.h"
#include "trainer/config.h"

namespace farsight {

// How long training is, for the learning rate.
struct RateSpan {
  int64_t warmup = 0;  // steps
  int64_t total = 0;
  double epoch = 0.0;  // steps of an epoch; for schedules that go by epochs
};

// Learning rate of optimizer step `step` (0-based): linear warm-up to lr, then
//   constant, linear, cosine   lr, or down to min_lr at the end
//   type1                      lr / 2^(e-1) in epoch e = 1, 2, ...
//   type3                      lr, in epochs e > 2 0.9^(e-2) of it; type3_onecycle: lr / 25 in epoch 1
//   onecycle                   half a cosine up from lr / 25 to lr in pct_start of the run, half a cosine down to
//                              lr / 250000 in the rest (Smith & Topin 2018, arXiv:1708.07120)
// Source of the types: forecasting specification, sections 2.5 and 4.3.
double learning_rate(const OptimConfig& optim, int64_t step, const RateSpan& span);

class Optimizer {
 public:
  // Allocates the state of this rank's pieces, zeroed. `shards` must outlive the optimizer.
  Optimizer(ParameterShards& shards, const OptimConfig& config);

  // One update of this rank's pieces with their reduced gradients, which are multiplied by `gate` (kernels/totals.h);
  // nothing changes if it is NaN. `open` is the same gate without a clip: of running averages. step counts from 1. Not
  // collective: ParameterShards::gather_values() spreads the result.
  void update(double rate, const Tensor& gate, const Tensor& open, int64_t step);
  bool has_averages() const { return has_averages_; }

  // State by its name ("m", "v"), laid out as ParameterShards::pieces() says; stays valid with the optimizer.
  struct State {
    std::string name;
    Tensor packed;
  };
  std::vector<State> state() const;

 private:
  ParameterShards& shards_;
  OptimConfig config_;
  void update_averages(size_t piece, const Tensor& open);

  // Of each piece, relative to its begin: what is trained, and running averages with one momentum.
  std::vector<std::vector<OptimizerRange>> ranges_, averages_;
  bool has_averages_ = false;
  double momentum_ = 0.0;
  Tensor first_, second_;  // m and v of AdamW; momentum of SGD in first_
};

}  // namespace farsight
