// SPDX-License-Identifier: Apache-2.0
// A few steps of a configuration in some layout, with everything that must not depend on the layout; and how far two
// such runs agree. Behind `farsight verify` and the parity tests.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "parallel/comm.h"
#include "trainer/config.h"
#include "trainer/dataset.h"

namespace farsight {

// Logical tensors by global name.
using NamedTensors = std::map<std::string, std::vector<float>>;

struct LayoutRun {
  NamedTensors initial;                       // weights before step 1
  NamedTensors gradients;                     // of step 1, after the reduction
  NamedTensors weights;                       // after the last step
  std::vector<double> losses, norms;          // of every step
  std::vector<std::vector<int64_t>> samples;  // sample numbers of every step, all data ranks, sorted
};

// Trains `config` for `steps` steps on the ranks of `world`, in the layout that its parallel keys say, with a constant
// learning rate, and compares replicas at the end. Collective. The result is complete on rank 0 and empty elsewhere.
// Throws what training throws: Error{config} for a layout that cannot be, Error{diverged} when replicas differ.
LayoutRun run_layout(Communicator& world, const Config& config, const DatasetFiles& files, int64_t steps);

// Two runs of the same steps. Tolerances: parallelism specification, section 22.
struct Agreement {
  bool same_initial = true;    // bit for bit
  std::string initial_tensor;  // the first one that differs
  bool same_samples = true;
  double first_loss = 0.0;      // relative
  double worst_gradient = 0.0;  // largest difference / max(largest |g| of the tensor, 1e-4 of the model's largest)
  std::string gradient_tensor;
  double worst_norm = 0.0;  // gradient norms of all steps, relative
  double last_loss = 0.0;   // relative, worst of all steps
};
Agreement compare(const LayoutRun& run, const LayoutRun& reference);

// max |a - b| / max(max |b|, floor) over one tensor.
double relative_difference(const std::vector<float>& a, const std::vector<float>& b, double floor);

}  // namespace farsight
