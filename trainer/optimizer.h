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

// Learning rate of optimizer step `step` (0-based) of `total`: linear warm-up over `warmup` steps to lr, then constant,
// or linear or cosine down to min_lr at `total`.
double learning_rate(const OptimConfig& optim, int64_t step, int64_t warmup, int64_t total);

class Optimizer {
 public:
  // Allocates the state of this rank's pieces, zeroed. `shards` must outlive the optimizer.
  Optimizer(ParameterShards& shards, const OptimConfig& config);

  // One update of this rank's pieces with their reduced gradients, which are multiplied by `gate` (kernels/totals.h);
  // nothing changes if it is NaN. step counts from 1. Not collective: ParameterShards::gather_values() spreads the
  // result.
  void update(double rate, const Tensor& gate, int64_t step);

  // State by its name ("m", "v"), laid out as ParameterShards::pieces() says; stays valid with the optimizer.
  struct State {
    std::string name;
    Tensor packed;
  };
  std::vector<State> state() const;

 private:
  ParameterShards& shards_;
  OptimConfig config_;
  std::vector<std::vector<OptimizerRange>> ranges_;  // of each piece, relative to its begin
  Tensor first_, second_;                            // m and v of AdamW; momentum of SGD in first_
};

}  // namespace farsight
