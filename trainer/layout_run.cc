// SPDX-License-Identifier: Apache-2.0
#include "trainer/layout_run.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "parallel/replica_check.h"
#include "trainer/collect_model.h"
#include "trainer/layout_trainer.h"

namespace farsight {
namespace {

// Sample numbers of the whole step, sorted; every data rank contributes its own. Collective.
std::vector<int64_t> samples_of(const StepBatch& batch, Mesh& mesh) {
  std::vector<int64_t> mine;
  for (const auto& micro : batch.micro) mine.insert(mine.end(), micro.sample_ids.begin(), micro.sample_ids.end());
  Communicator& data = mesh.dp();
  std::vector<int64_t> all(mine.size() * static_cast<size_t>(data.size()));
  const std::vector<int64_t> counts(static_cast<size_t>(data.size()),
                                    static_cast<int64_t>(mine.size() * sizeof(int64_t)));
  data.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)), counts);
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

LayoutRun run_layout(Communicator& world, const Config& config, const DatasetFiles& files, int64_t steps) {
  const bool root = world.rank() == 0;
  LayoutRun result;
  LayoutTrainer trainer(world, config, files);
  result.initial = collect_tensors(trainer.shards(), /*gradients=*/false);
  for (int64_t s = 0; s < steps; ++s) {
    auto samples = samples_of(trainer.batch(), trainer.mesh());
    auto outcome = trainer.accumulate();
    if (s == 0) result.gradients = collect_tensors(trainer.shards(), /*gradients=*/true);
    if (root) {
      result.samples.push_back(std::move(samples));
      result.losses.push_back(outcome.loss);
      result.norms.push_back(outcome.grad_norm);
    }
    trainer.update(outcome, config.optim.lr);
  }
  check_replicas(trainer.shards());
  result.weights = collect_tensors(trainer.shards(), /*gradients=*/false);
  return result;
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b, double floor) {
  double difference = 0.0;
  double largest = floor;
  for (size_t i = 0; i < b.size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return difference / largest;
}

Agreement compare(const LayoutRun& run, const LayoutRun& reference) {
  Agreement out;
  out.same_samples = run.samples == reference.samples;
  for (const auto& [name, values] : reference.initial) {
    const auto found = run.initial.find(name);
    if (found != run.initial.end() && found->second == values) continue;
    out.same_initial = false;
    out.initial_tensor = name;
    break;
  }
  out.first_loss = std::abs(run.losses[0] / reference.losses[0] - 1.0);
  double largest = 0.0;
  for (const auto& [name, g] : reference.gradients) {
    for (const float v : g) largest = std::max(largest, std::abs(static_cast<double>(v)));
  }
  for (const auto& [name, g] : reference.gradients) {
    const double difference = relative_difference(run.gradients.at(name), g, 1e-4 * largest);
    if (difference <= out.worst_gradient) continue;
    out.worst_gradient = difference;
    out.gradient_tensor = name;
  }
  for (size_t s = 0; s < reference.losses.size(); ++s) {
    out.last_loss = std::max(out.last_loss, std::abs(run.losses[s] / reference.losses[s] - 1.0));
    out.worst_norm = std::max(out.worst_norm, std::abs(run.norms[s] / reference.norms[s] - 1.0));
  }
  return out;
}

}  // namespace farsight
