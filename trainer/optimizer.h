// SPDX-License-Identifier: Apache-2.0
// The optimizer of a run: its kind and constants from the configuration, its state in flat slabs beside the parameters.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/optimizer_range.h"
#include "kernels/parameter.h"
#include "kernels/tensor.h"
#include "trainer/checkpoint/tensor_slice.h"
#include "trainer/config.h"

namespace farsight {

// Learning rate of optimizer step `step` (0-based) of `total`: linear warm-up over `warmup` steps to lr, then constant,
// or linear or cosine down to min_lr at `total`.
double learning_rate(const OptimConfig& optim, int64_t step, int64_t warmup, int64_t total);

class Optimizer {
 public:
  // Allocates the state, zeroed. `store` must be allocated and outlive the optimizer.
  Optimizer(ParameterStore& store, const OptimConfig& config);

  // One update with the gradients in the store; clip_factor multiplies every gradient. step counts from 1.
  void update(double rate, double clip_factor, int64_t step);

  // State by parameter: names "optim.m/<parameter>" ...; views that stay valid with the optimizer.
  struct StateTensor {
    std::string name;
    Tensor tensor;
  };
  std::vector<StateTensor> state() const;

 private:
  Tensor view_of(const Tensor& slab, const Parameter& parameter) const;

  ParameterStore& store_;
  OptimConfig config_;
  std::vector<OptimizerRange> ranges_;
  Tensor first_, second_;  // m and v of AdamW; momentum of SGD in first_
};

}  // namespace farsight
