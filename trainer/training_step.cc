// SPDX-License-Identifier: Apache-2.0
#include "trainer/training_step.h"

#include <array>
#include <cmath>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/totals.h"

namespace farsight {
namespace {

constexpr int64_t kWarmUpSteps = 2;  // before steps become graphs

int64_t rows_of(const StepBatch& batch) {
  int64_t rows = 0;
  for (const auto& micro : batch.micro) rows += static_cast<int64_t>(micro.sample_ids.size());
  return rows;
}

// Rows of the whole step, for losses that are a mean over rows.
double entropy_scale(const Trainable& model, const StepBatch& batch, const SequenceLayout& layout, int64_t data_ranks) {
  const int64_t rows = model.entropy_rows(layout) * rows_of(batch) * data_ranks;
  return rows == 0 ? 0.0 : 1.0 / static_cast<double>(rows);
}

}  // namespace

StepResult StepOutcome::read() {
  const double* totals = totals_.wait().data<double>();
  StepResult result;
  result.loss = totals[0] * loss_scale_;
  result.entropy = totals[1] * entropy_scale_;
  result.grad_norm = std::sqrt(totals[2]);
  result.targets = targets_;
  result.updated = std::isfinite(totals[0]) && std::isfinite(totals[1]) && std::isfinite(totals[2]);
  result.offloaded_peak = offloaded_peak_;
  return result;
}

TrainingStep::TrainingStep(Trainable& model, ParameterShards& shards, Optimizer& optimizer, StepOptions options)
    : model_(model),
      shards_(shards),
      optimizer_(optimizer),
      mesh_(shards.mesh()),
      options_(std::move(options)),
      reducer_(shards),
      offload_(options_.offload ? make_offload() : nullptr),
      totals_(Tensor::zeros({3}, DType::f64, MemoryTag::other)),
      gate_(Tensor::zeros({1}, DType::f32, MemoryTag::other)),
      open_(Tensor::zeros({1}, DType::f32, MemoryTag::other)) {
  if (current_device() == Device::cpu) return;
  if (!options_.graph) {
    why_no_graph_ = "run.cuda_graph = false";
  } else if (mesh_.world().size() > 1) {
    why_no_graph_ = "several ranks";
  } else if (offload_) {
    why_no_graph_ = "activations are offloaded";
  } else {
    graph_ = std::make_unique<StepGraph>(cuda_device());
  }
}

int64_t TrainingStep::count_targets(int64_t local_targets) {
  std::array<int64_t, 1> count{local_targets};
  mesh_.dp_cp().all_reduce(std::span<int64_t>(count), ReduceOp::sum);
  return count[0];
}

TrainingStep::Scales TrainingStep::accumulate_gradients(const StepBatch& batch, int64_t step, int64_t targets) {
  ModelPass pass;
  pass.seed = options_.seed;
  pass.step = static_cast<uint64_t>(step);
  pass.loss_scale = 1.0 / static_cast<double>(targets);
  const int64_t data_ranks = mesh_.shape().extent(Axis::dp);
  pass.entropy_scale = entropy_scale(model_, batch, options_.layout, data_ranks);
  pass.shards = &shards_;
  reducer_.begin_step();
  totals_.fill_zero();
  const ModelSums sums{totals_.narrow(0, 1), totals_.narrow(1, 1)};
  for (size_t i = 0; i < batch.micro.size(); ++i) {
    pass.rows = static_cast<int64_t>(batch.micro[i].sample_ids.size()) * data_ranks;
    Tape tape;
    shards_.begin_pass(/*training=*/true);
    reducer_.begin(/*last=*/i + 1 == batch.micro.size());
    tape.on_gradient_ready(reducer_.handler());
    tape.set_offload(offload_.get());
    tape.backward(model_.micro_batch_loss(tape, mesh_, options_.layout, batch.micro[i], pass, sums));
    reducer_.finish();
    shards_.end_pass();
  }
  finish_totals(shards_, totals_);
  return {pass.loss_scale, pass.entropy_scale};
}

StepOutcome TrainingStep::outcome(const Scales& scales, int64_t targets) const {
  return {totals_, scales.loss, scales.entropy, targets, offload_ ? offload_->stats().peak_bytes : 0};
}

StepOutcome TrainingStep::accumulate(const StepBatch& batch, int64_t step, int64_t targets) {
  return outcome(accumulate_gradients(batch, step, targets), targets);
}

void TrainingStep::update(double rate, int64_t step) {
  update_gate(totals_, options_.clip, gate_);
  if (optimizer_.has_averages()) update_gate(totals_, /*max_norm=*/0.0, open_);
  optimizer_.update(rate, gate_, open_, step + 1);
  shards_.gather_values();
}

// Libraries choose their plans, and memory is reserved, in the first steps. Where the operations change from step to
// step (documents of ever new shapes), making graphs would cost more than they save.
bool TrainingStep::records() const {
  constexpr int64_t kTries = 8;
  return graph_ && runs_ > kWarmUpSteps && (graph_->launches() < kTries || 4 * graph_->made() < graph_->launches());
}

StepOutcome TrainingStep::run(const StepBatch& batch, int64_t step, int64_t targets, double rate) {
  Scales scales{};
  const auto both = [&] {
    scales = accumulate_gradients(batch, step, targets);
    update(rate, step);
  };
  ++runs_;
  if (records()) {
    graph_->run(both);
  } else {
    both();
  }
  return outcome(scales, targets);
}

std::string TrainingStep::graph_use() const {
  if (current_device() == Device::cpu) return {};
  if (!graph_) return "off: " + why_no_graph_;
  if (graph_->launches() == 0) return fmt::format("from step {} on", kWarmUpSteps + 1);
  return fmt::format("{} of {} steps, {} graph{} made{}", graph_->launches(), runs_, graph_->made(),
                     graph_->made() == 1 ? "" : "s", records() ? "" : "; off now: operations change too often");
}

EvaluationResult evaluate(Trainable& model, Mesh& mesh, ParameterShards* shards, const SequenceLayout& layout,
                          BatchStream& stream, const std::function<void()>& on_batch) {
  ModelPass pass;
  pass.training = false;
  pass.shards = shards;
  const Tensor totals = Tensor::zeros({2}, DType::f64, MemoryTag::other);
  const ModelSums sums{totals.narrow(0, 1), totals.narrow(1, 1)};
  std::array<int64_t, 1> count{};
  while (const StepBatch* step = stream.next()) {
    for (const auto& micro : step->micro) {
      Tape tape(/*recording=*/false);
      if (shards != nullptr) shards->begin_pass(/*training=*/false);
      model.micro_batch_loss(tape, mesh, layout, micro, pass, sums);
      if (shards != nullptr) shards->end_pass();
      // Tensor ranks read the same tokens: the first one counts.
      if (mesh.coordinate().tp == 0) count[0] += micro.valid_labels;
      if (on_batch) on_batch();
    }
  }
  mesh.world().all_reduce_now(totals, ReduceOp::sum);
  mesh.world().all_reduce(std::span<int64_t>(count), ReduceOp::sum);
  return {totals.to(Device::cpu).data<double>()[0], count[0]};
}

}  // namespace farsight
