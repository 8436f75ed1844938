// SPDX-License-Identifier: Apache-2.0
#include "kernels/running_average.h"

#include <vector>

#include "kernels/sgd.h"

namespace farsight {

void running_average(const Tensor& values, const Tensor& measured, std::span<const OptimizerRange> ranges,
                     double momentum, const Tensor& rounded, const Tensor& gate) {
  // A step of gradient descent, value (1 - rate decay) - rate g, at rate -momentum and decay -1 is the same sum.
  std::vector<OptimizerRange> all(ranges.begin(), ranges.end());
  for (OptimizerRange& range : all) {
    range.rate = 1.0F;
    range.decay = true;
  }
  sgd(values, measured, {}, all, {.rate = -momentum, .weight_decay = -1.0}, rounded, gate);
}

}  // namespace farsight
