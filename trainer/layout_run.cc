// SPDX-License-Identifier: Apache-2.0
#include "trainer/layout_run.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "kernels/error.h"
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

// Differences between layouts came out at 0.5 to 1.3 of what a change of every last bit does, tensor by tensor, from
// key biases to embeddings (3 layers of GPT-2's width; additive scores).
constexpr double kRoundings = 4.0;
constexpr double kInfinite = std::numeric_limits<double>::infinity();

// The larger of two differences, where not-a-number is the largest of all.
double worse(double a, double b) { return std::isnan(b) ? kInfinite : std::max(a, b); }

const std::vector<float>& tensor(const NamedTensors& tensors, const std::string& name) {
  static const std::vector<float> none;
  const auto found = tensors.find(name);
  return found == tensors.end() ? none : found->second;
}

double apart(const std::vector<double>& a, const std::vector<double>& b, size_t step) {
  return step < a.size() && step < b.size() ? worse(0.0, std::abs(a[step] / b[step] - 1.0)) : kInfinite;
}

}  // namespace

LayoutRun run_layout(Communicator& world, const Config& config, const DatasetFiles& files, int64_t steps,
                     const LayoutRunOptions& options) {
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
    trainer.update(config.optim.lr);
  }
  try {
    check_replicas(trainer.shards());
  } catch (const Error& error) {  // on all ranks alike
    if (!options.report_replicas || error.kind() != ErrorKind::diverged) throw;
    result.replicas = error.what();
  }
  if (options.weights) result.weights = collect_tensors(trainer.shards(), /*gradients=*/false);
  return result;
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b, double floor) {
  if (a.size() != b.size()) return kInfinite;
  double difference = 0.0;
  double largest = floor;
  for (size_t i = 0; i < b.size(); ++i) {
    difference = worse(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return difference == 0.0 ? 0.0 : difference / largest;
}

Agreement compare(const LayoutRun& run, const LayoutRun& reference, const std::map<std::string, double>& rounding) {
  Agreement out;
  out.replicas = run.replicas;
  out.same_samples = run.samples == reference.samples;
  for (const auto& [name, values] : reference.initial) {
    if (tensor(run.initial, name) == values) continue;
    out.same_initial = false;
    out.initial_tensor = name;
    break;
  }
  double largest = 0.0;
  for (const auto& [name, g] : reference.gradients) {
    for (const float v : g) largest = std::max(largest, std::abs(static_cast<double>(v)));
  }
  for (const auto& [name, g] : reference.gradients) {
    const auto rounds = rounding.find(name);
    const double noise = rounds == rounding.end() ? 0.0 : kRoundings * rounds->second / kLayoutGradientTolerance;
    const double difference = relative_difference(tensor(run.gradients, name), g, std::max(1e-4 * largest, noise));
    if (difference <= out.worst_gradient) continue;
    out.worst_gradient = difference;
    out.gradient_tensor = name;
  }
  out.first_loss = apart(run.losses, reference.losses, 0);
  for (size_t s = 0; s < reference.losses.size(); ++s) {
    out.last_loss = worse(out.last_loss, apart(run.losses, reference.losses, s));
    out.worst_norm = worse(out.worst_norm, apart(run.norms, reference.norms, s));
  }
  return out;
}

std::string disagreement(const Agreement& a) {
  if (!a.same_initial) return fmt::format("the initial weights of {} have other bits", a.initial_tensor);
  if (!a.same_samples) return "the steps are made of other samples";
  if (!(a.first_loss <= kFirstLossTolerance)) {
    return fmt::format(
        "the loss of step 1 is off by {:.1e} of it (allowed: {:.0e}){}", a.first_loss, kFirstLossTolerance,
        a.worst_gradient > kLayoutGradientTolerance
            ? fmt::format(", the gradient of {} by {:.1e} of its largest entry", a.gradient_tensor, a.worst_gradient)
            : "");
  }
  if (!(a.worst_gradient <= kLayoutGradientTolerance)) {
    return fmt::format("the gradient of {} is off by {:.1e} of its largest entry (allowed: {:.0e})", a.gradient_tensor,
                       a.worst_gradient, kLayoutGradientTolerance);
  }
  if (!a.replicas.empty()) return a.replicas.substr(0, a.replicas.find(';'));
  if (!(a.last_loss <= kLossesTolerance)) {
    return fmt::format(
        "the losses of later steps are off by {:.1e} (allowed: {:.0e}) although the gradients of step 1 "
        "agree: the update differs",
        a.last_loss, kLossesTolerance);
  }
  return {};
}

}  // namespace farsight
