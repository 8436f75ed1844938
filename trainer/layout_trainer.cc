// SPDX-License-Identifier: Apache-2.0
#include "trainer/layout_trainer.h"

#include <span>

#include "kernels/error.h"
#include "trainer/run_device.h"
#include "trainer/run_mesh.h"

namespace farsight {

LayoutTrainer::LayoutTrainer(Communicator& world, const Config& config, const DatasetFiles& files)
    : config_(config),
      layout_(resolve_layout(config, world.size())),
      mesh_(world, mesh_options(layout_)),
      task_(make_task(config, files, "")),
      sequence_(task_->sequence(layout_)),
      model_(task_->make_model(mesh_.shape(), world.rank())),
      shards_(model_->parameters(), mesh_, model_->placements(), config.parallel.zero, config.parallel.bucket_bytes,
              value_type(config)),
      optimizer_(shards_, config.optim),
      step_(*model_, shards_, optimizer_,
            {static_cast<uint64_t>(config.run.seed), config.optim.clip, sequence_,
             config.train.offload == OffloadChoice::activations}) {
  shards_.initialize(static_cast<uint64_t>(config.run.seed));
}

void LayoutTrainer::set_position(const TrainingPosition& position) {
  if (stream_) fail(ErrorKind::internal, "LayoutTrainer: the position is set after the first batch");
  position_ = position;
}

const StepBatch& LayoutTrainer::batch() {
  if (!stream_) {
    StreamPlan plan;
    plan.seed = static_cast<uint64_t>(config_.run.seed);
    plan.shuffle = config_.data.shuffle ? Shuffle::samples : Shuffle::none;
    plan.first_sample = position_.samples;
    plan.global_batch = config_.train.batch_samples;
    plan.data_ranks = layout_.data;
    plan.data_rank = mesh_.coordinate().dp;
    plan.micro_batch = layout_.micro_batch;
    stream_ = task_->train_stream({mesh_, layout_}, plan);
  }
  if (batch_ == nullptr) batch_ = stream_->next();
  return *batch_;
}

int64_t LayoutTrainer::targets() {
  if (targets_ == 0) targets_ = step_.count_targets(batch().valid_labels);
  if (targets_ == 0) fail(ErrorKind::data, "step {}: no token of the batch is a target", position_.step + 1);
  return targets_;
}

StepResult LayoutTrainer::accumulate() {
  const int64_t count = targets();
  return step_.accumulate(batch(), position_.step, count).read();
}

double LayoutTrainer::objective() {
  const int64_t rows = config_.train.batch_samples * model_->entropy_rows(sequence_);
  ModelPass pass;
  pass.seed = static_cast<uint64_t>(config_.run.seed);
  pass.step = static_cast<uint64_t>(position_.step);
  pass.loss_scale = 1.0 / static_cast<double>(targets());
  pass.entropy_scale = rows == 0 ? 0.0 : 1.0 / static_cast<double>(rows);
  pass.shards = &shards_;
  // Sums of losses and row entropies of all micro-batches: the scales are the same for all.
  const Tensor totals = Tensor::zeros({2}, DType::f64, MemoryTag::other);
  const ModelSums sums{totals.narrow(0, 1), totals.narrow(1, 1)};
  for (const MicroBatch& micro : batch().micro) {
    pass.rows = static_cast<int64_t>(micro.sample_ids.size()) * mesh_.shape().extent(Axis::dp);
    Tape tape(/*recording=*/false);
    shards_.begin_pass(/*training=*/false);
    model_->micro_batch_loss(tape, mesh_, sequence_, micro, pass, sums);
    shards_.end_pass();
  }
  mesh_.world().all_reduce_now(totals, ReduceOp::sum);
  const Tensor host = totals.to(Device::cpu);
  return host.data<double>()[0] * pass.loss_scale +
         config_.attention.entropy_weight * host.data<double>()[1] * pass.entropy_scale;
}

void LayoutTrainer::update(double rate) {
  step_.update(rate, position_.step);
  position_.step += 1;
  position_.samples += config_.train.batch_samples;
  position_.tokens += config_.train.batch_samples * task_->tokens_per_sample();
  batch_ = nullptr;
  targets_ = 0;
}

}  // namespace farsight
