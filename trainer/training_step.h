// SPDX-License-Identifier: Apache-2.0
// One optimizer step: forward and backward over the micro-batches, gradients summed while backward runs, norm, clip,
// update. The only scale factor is 1/N, N = valid targets of the whole step over micro-batches and ranks, counted
// before the first backward.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "data/reader.h"
#include "kernels/cuda/step_graph.h"
#include "kernels/download.h"
#include "kernels/offload.h"
#include "parallel/gradients.h"
#include "parallel/mesh.h"
#include "parallel/parameter_shards.h"
#include "trainer/optimizer.h"
#include "trainer/trainable.h"

namespace farsight {

struct StepOptions {
  uint64_t seed = 0;
  double clip = 1.0;      // global norm; 0 = off
  SequenceLayout layout;  // T positions over the context ranks
  bool offload = false;   // inputs of recomputed layers wait in host memory
  bool graph = false;     // on a device, steps are handed over as one CUDA graph each, where they can be
};

struct StepResult {
  double loss = 0.0;           // mean -log p per valid target of the step, over all ranks
  double entropy = 0.0;        // mean row entropy, 0 unless the model has an entropy term
  double grad_norm = 0.0;      // before clipping
  int64_t targets = 0;         // N
  bool updated = false;        // false: N = 0, or the norm is not finite
  int64_t offloaded_peak = 0;  // bytes of this rank
};

// What has become of a step. Where a device computes, the step may still be running: reading waits for it.
class StepOutcome {
 public:
  StepOutcome() = default;
  // totals [3] f64: sums of losses and row entropies, and of the squares of the gradient.
  StepOutcome(const Tensor& totals, double loss_scale, double entropy_scale, int64_t targets, int64_t offloaded_peak)
      : totals_(totals),
        loss_scale_(loss_scale),
        entropy_scale_(entropy_scale),
        targets_(targets),
        offloaded_peak_(offloaded_peak) {}
  StepResult read();

 private:
  Download totals_;
  double loss_scale_ = 0.0, entropy_scale_ = 0.0;
  int64_t targets_ = 0, offloaded_peak_ = 0;
};

// Where a device computes, the host does not wait for it in any of these, unless tensors travel between ranks through
// the host.
class TrainingStep {
 public:
  // All must outlive the object; `shards` are those of the model's parameters and know the mesh.
  TrainingStep(Trainable& model, ParameterShards& shards, Optimizer& optimizer, StepOptions options);

  // Number of valid targets of the step over all ranks. Collective over the mesh.
  int64_t count_targets(int64_t local_targets);
  // Forward, backward, reduction: every rank holds the complete gradients of its shards. Collective. targets > 0.
  StepOutcome accumulate(const StepBatch& batch, int64_t step, int64_t targets);
  // Clips and updates with the gradients of the last accumulate(), unless the norm or the loss is not finite: then
  // nothing changes. rate: learning rate. Collective.
  void update(double rate, int64_t step);
  // Both.
  StepOutcome run(const StepBatch& batch, int64_t step, int64_t targets, double rate);
  // How steps are handed to the device, for the log: "off: several ranks", "from step 3 on", "6 of 8 steps, 1 graph
  // made". Empty on the CPU.
  std::string graph_use() const;

 private:
  struct Scales {
    double loss, entropy;
  };
  Scales accumulate_gradients(const StepBatch& batch, int64_t step, int64_t targets);
  StepOutcome outcome(const Scales& scales, int64_t targets) const;
  bool records() const;

  Trainable& model_;
  ParameterShards& shards_;
  Optimizer& optimizer_;
  Mesh& mesh_;
  StepOptions options_;
  GradientReducer reducer_;
  std::unique_ptr<ActivationOffload> offload_;
  Tensor totals_, gate_, open_;  // of the last step, where it computes
  std::string why_no_graph_;
  std::unique_ptr<StepGraph> graph_;  // null: the device is given every operation by itself
  int64_t runs_ = 0;
};

struct EvaluationResult {
  double loss_sum = 0.0;  // nats over all targets
  int64_t targets = 0;
  double loss() const { return targets == 0 ? 0.0 : loss_sum / static_cast<double>(targets); }
};

// Sum and count over everything the stream delivers, all ranks. Collective; every rank's stream has the same length.
// on_batch (may be empty) is called after each micro-batch. `shards` null: all parameters are here.
EvaluationResult evaluate(Trainable& model, Mesh& mesh, ParameterShards* shards, const SequenceLayout& layout,
                          BatchStream& stream, const std::function<void()>& on_batch);

}  // namespace farsight
