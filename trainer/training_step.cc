// SPDX-License-Identifier: Apache-2.0
#include "trainer/training_step.h"

#include <array>
#include <cmath>
#include <utility>

#include "kernels/gradient_norm.h"

namespace farsight {
namespace {

ModelBatch model_batch(const MicroBatch& micro, const SequenceBatch& sequence, const SequenceRows& rows) {
  return {&sequence, &rows, micro.inputs.span<int32_t>(), micro.labels.span<int32_t>()};
}

// Rows of the whole step, for losses that are a mean over rows.
double entropy_scale(const ModelSpec& spec, const StepBatch& batch, int64_t tokens, int64_t data_ranks) {
  int64_t rows = 0;
  for (const auto& micro : batch.micro) rows += micro.inputs.dim(0) * tokens;
  return 1.0 / (static_cast<double>(rows * data_ranks) * static_cast<double>(spec.layers * spec.heads));
}

}  // namespace

SequenceBatch sequence_batch(const MicroBatch& micro, const SequenceLayout& layout) {
  SequenceBatch out;
  out.batch = micro.inputs.dim(0);
  out.layout = layout;
  out.documents = micro.documents;
  for (const int64_t id : micro.sample_ids) out.samples.push_back(static_cast<uint64_t>(id));
  return out;
}

TrainingStep::TrainingStep(LanguageModel& model, ParameterShards& shards, Optimizer& optimizer, StepOptions options)
    : model_(model),
      shards_(shards),
      optimizer_(optimizer),
      mesh_(shards.mesh()),
      options_(std::move(options)),
      reducer_(shards),
      offload_(options_.offload ? make_offload() : nullptr) {}

int64_t TrainingStep::count_targets(int64_t local_targets) {
  std::array<int64_t, 1> count{local_targets};
  mesh_.dp_cp().all_reduce(std::span<int64_t>(count), ReduceOp::sum);
  return count[0];
}

StepResult TrainingStep::accumulate(const StepBatch& batch, int64_t step, int64_t targets) {
  StepResult result;
  result.targets = targets;
  ModelPass pass;
  pass.seed = options_.seed;
  pass.step = static_cast<uint64_t>(step);
  pass.loss_scale = 1.0 / static_cast<double>(targets);
  pass.entropy_scale = entropy_scale(model_.spec(), batch, options_.layout.tokens(), mesh_.shape().extent(Axis::dp));
  pass.shards = &shards_;
  reducer_.begin_step();
  std::array<double, 2> sums{};
  for (size_t i = 0; i < batch.micro.size(); ++i) {
    const auto sequence = sequence_batch(batch.micro[i], options_.layout);
    const auto rows = sequence.rows(mesh_.context_index());
    Tape tape;
    shards_.begin_pass(/*training=*/true);
    reducer_.begin(/*last=*/i + 1 == batch.micro.size());
    tape.on_gradient_ready(reducer_.handler());
    tape.set_offload(offload_.get());
    const auto loss = model_.loss(tape, mesh_, model_batch(batch.micro[i], sequence, rows), pass);
    tape.backward(loss.root);
    reducer_.finish();
    shards_.end_pass();
    sums[0] += loss.loss_sum;
    sums[1] += loss.entropy_sum;
  }
  mesh_.world().all_reduce(std::span<double>(sums), ReduceOp::sum);
  result.loss = sums[0] * pass.loss_scale;
  result.entropy = sums[1] * pass.entropy_scale;
  result.grad_norm = gradient_norm(shards_);
  if (offload_) result.offloaded_peak = offload_->stats().peak_bytes;
  return result;
}

void TrainingStep::update(StepResult& result, double rate, int64_t step) {
  result.updated = std::isfinite(result.grad_norm) && std::isfinite(result.loss);
  if (!result.updated) return;
  optimizer_.update(rate, clip_factor(result.grad_norm, options_.clip), step + 1);
  shards_.gather_values();
}

EvaluationResult evaluate(LanguageModel& model, Mesh& mesh, ParameterShards* shards, const SequenceLayout& layout,
                          BatchStream& stream, const std::function<void()>& on_batch) {
  EvaluationResult result;
  ModelPass pass;
  pass.training = false;
  pass.shards = shards;
  while (const StepBatch* step = stream.next()) {
    for (const auto& micro : step->micro) {
      const auto sequence = sequence_batch(micro, layout);
      const auto rows = sequence.rows(mesh.context_index());
      Tape tape(/*recording=*/false);
      if (shards != nullptr) shards->begin_pass(/*training=*/false);
      result.loss_sum += model.loss(tape, mesh, model_batch(micro, sequence, rows), pass).loss_sum;
      if (shards != nullptr) shards->end_pass();
      // Tensor ranks read the same tokens: the first one counts.
      if (mesh.coordinate().tp == 0) result.targets += micro.valid_labels;
      if (on_batch) on_batch();
    }
  }
  std::array<double, 1> sum{result.loss_sum};
  std::array<int64_t, 1> count{result.targets};
  mesh.world().all_reduce(std::span<double>(sum), ReduceOp::sum);
  mesh.world().all_reduce(std::span<int64_t>(count), ReduceOp::sum);
  return {sum[0], count[0]};
}

}  // namespace farsight
