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
  NamedTensors weights;                       // after the last step; empty unless asked for
  std::vector<double> losses, norms;          // of every step
  std::vector<std::vector<int64_t>> samples;  // sample numbers of every step, all data ranks, sorted
  std::string replicas;                       // which copies differ after the last step; empty = none
};

struct LayoutRunOptions {
  bool weights = true;           // keep those after the last step
  bool report_replicas = false;  // replicas that differ are in the result, not thrown
};

// Trains `config` for `steps` steps on the ranks of `world`, in the layout that its parallel keys say, with a constant
// learning rate, and compares replicas at the end. Collective. The result is complete on rank 0 and empty elsewhere.
// Throws what training throws: Error{config} for a layout that cannot be, Error{diverged} when replicas differ.
LayoutRun run_layout(Communicator& world, const Config& config, const DatasetFiles& files, int64_t steps,
                     const LayoutRunOptions& options = {});

// What two runs of the same steps may differ by. Source: parallelism specification, section 22.
inline constexpr double kFirstLossTolerance = 1e-6;
inline constexpr double kLayoutGradientTolerance = 1e-5;
inline constexpr double kLossesTolerance = 1e-4;

// Every difference is infinite where a number is not finite or missing.
struct Agreement {
  bool same_initial = true;    // bit for bit
  std::string initial_tensor;  // the first one that differs
  bool same_samples = true;
  double first_loss = 0.0;      // relative
  double worst_gradient = 0.0;  // largest difference / max(largest |g| of the tensor, floor)
  std::string gradient_tensor;
  double worst_norm = 0.0;  // gradient norms of all steps, relative
  double last_loss = 0.0;   // relative, worst of all steps
  std::string replicas;     // which copies differ
};
// The floor is 1e-4 of the largest gradient entry of the model, because some gradients are zero in theory. `rounding`
// (may be empty) raises it for a tensor whose entries rounding alone moves by that much on one rank: differences of
// four times as much are within tolerance.
Agreement compare(const LayoutRun& run, const LayoutRun& reference, const std::map<std::string, double>& rounding = {});

// Empty when all is within tolerance; otherwise what is not, with tensor and size, in words that follow "in layout X".
std::string disagreement(const Agreement& agreement);

// max |a - b| / max(max |b|, floor) over one tensor; infinite where the sizes differ or an element is not finite.
double relative_difference(const std::vector<float>& a, const std::vector<float>& b, double floor);

}  // namespace farsight
