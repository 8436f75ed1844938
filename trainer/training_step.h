// SPDX-License-Identifier: Apache-2.0
// One optimizer step: forward and backward over the micro-batches, gradients summed while backward runs, norm, clip,
// update. The only scale factor is 1/N, N = valid targets of the whole step over micro-batches and ranks, counted
// before the first backward.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "data/reader.h"
#include "kernels/offload.h"
#include "parallel/gradients.h"
#include "parallel/mesh.h"
#include "parallel/parameter_shards.h"
#include "parallel/sequence_batch.h"
#include "trainer/model.h"
#include "trainer/optimizer.h"

namespace farsight {

struct StepOptions {
  uint64_t seed = 0;
  double clip = 1.0;      // global norm; 0 = off
  SequenceLayout layout;  // T positions over the context ranks
  bool offload = false;   // inputs of recomputed layers wait in host memory
};

struct StepResult {
  double loss = 0.0;           // mean -log p per valid target of the step, over all ranks
  double entropy = 0.0;        // mean row entropy, 0 unless the model has an entropy term
  double grad_norm = 0.0;      // before clipping
  int64_t targets = 0;         // N
  bool updated = false;        // false: N = 0, or the norm is not finite
  int64_t offloaded_peak = 0;  // bytes of this rank
};

class TrainingStep {
 public:
  // All must outlive the object; `shards` are those of the model's parameters and know the mesh.
  TrainingStep(LanguageModel& model, ParameterShards& shards, Optimizer& optimizer, StepOptions options);

  // Number of valid targets of the step over all ranks. Collective over the mesh.
  int64_t count_targets(int64_t local_targets);
  // Forward, backward, reduction: on return every rank holds the complete gradients of its shards. Collective.
  // targets > 0.
  StepResult accumulate(const StepBatch& batch, int64_t step, int64_t targets);
  // Clips and updates unless the norm is not finite (result.updated says so). rate: learning rate. Collective.
  void update(StepResult& result, double rate, int64_t step);

 private:
  LanguageModel& model_;
  ParameterShards& shards_;
  Optimizer& optimizer_;
  Mesh& mesh_;
  StepOptions options_;
  GradientReducer reducer_;
  std::unique_ptr<ActivationOffload> offload_;
};

// The sequence description of a micro-batch, equal on all its context ranks.
SequenceBatch sequence_batch(const MicroBatch& micro, const SequenceLayout& layout);

struct EvaluationResult {
  double loss_sum = 0.0;  // nats over all targets
  int64_t targets = 0;
  double loss() const { return targets == 0 ? 0.0 : loss_sum / static_cast<double>(targets); }
};

// Sum and count over everything the stream delivers, all ranks. Collective; every rank's stream has the same length.
// on_batch (may be empty) is called after each micro-batch. `shards` null: all parameters are here.
EvaluationResult evaluate(LanguageModel& model, Mesh& mesh, ParameterShards* shards, const SequenceLayout& layout,
                          BatchStream& stream, const std::function<void()>& on_batch);

}  // namespace farsight
