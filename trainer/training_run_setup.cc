// SPDX-License-Identifier: Apache-2.0
// What a training run does before its first step, in the order in which things can fail.
#include <algorithm>
#include <filesystem>

#include "kernels/error.h"
#include "parallel/agree.h"
#include "trainer/agreed_error.h"
#include "trainer/run_device.h"
#include "trainer/run_directory.h"
#include "trainer/run_mesh.h"
#include "trainer/state_slices.h"
#include "trainer/training_run.h"

namespace farsight {
namespace {

std::string rank_name(const Communicator& world) {
  return world.size() == 1 ? std::string() : fmt::format("rank {}: ", world.rank());
}

}  // namespace

void TrainingRun::prepare() {
  agreed([&] {
    layout_ = resolve_layout(config_, world_.size());
    mesh_ = std::make_unique<Mesh>(world_, mesh_options(layout_));
  });
  agreed([&] { together(world_, [&] { take_directory(); }); });
  open_data();
  build_model();
  resume();
  start_services();
}

void TrainingRun::take_directory() {
  if (!is_root()) return;
  const std::string& dir = config_.run.dir;
  LockOptions options;
  options.wait_s = config_.checkpoint.lock_wait_s;
  lock_ = std::make_unique<RunLock>(*files_, dir + "/checkpoints", options);
  // Refused before anything of an older run is overwritten.
  if (request_.resume.mode == ResumeRequest::Mode::never && !list_checkpoints(*files_, dir + "/checkpoints").empty()) {
    fail(ErrorKind::config,
         "'{}' already holds checkpoints; pass --resume=auto to go on from the newest, or --run.dir=ANOTHER to start a "
         "new "
         "run beside it",
         dir);
  }
  std::filesystem::remove(dir + "/exit.json");
  describe_run(config_, request_.command_line, mesh_->describe(), world_.size());
  console_ = std::make_unique<Console>(out_, request_.terminal, dir + "/log.txt");
  if (!lock_->note().empty()) say(lock_->note());
}

void TrainingRun::open_data() {
  dataset_ = broadcast_dataset(request_.files, world_);
  agreed([&] { together(world_, [&] { task_ = make_task(config_, dataset_, rank_name(world_)); }); });
  const int64_t epoch = task_->train_samples();
  const auto steps = [&](const Amount& amount) { return amount_in_steps(amount, config_, epoch); };
  total_steps_ = steps(config_.train.steps);
  span_ = {steps(config_.optim.warmup), total_steps_,
           static_cast<double>(epoch) / static_cast<double>(config_.train.batch_samples)};
  eval_every_ = steps(config_.eval.every);
  save_every_ = steps(config_.checkpoint.every);
  log_every_ = steps(config_.log.every);
}

void TrainingRun::build_model() {
  agreed([&] {
    model_ = task_->make_model(mesh_->shape(), world_.rank());
    flops_per_token_ = task_->flops_per_token();
  });
  const ParallelConfig& parallel = config_.parallel;
  shards_ = std::make_unique<ParameterShards>(model_->parameters(), *mesh_, model_->placements(), parallel.zero,
                                              parallel.bucket_bytes, value_type(config_));
  shards_->initialize(static_cast<uint64_t>(config_.run.seed));
  optimizer_ = std::make_unique<Optimizer>(*shards_, config_.optim);
  const SequenceLayout sequence = task_->sequence(layout_);
  has_entropy_ = model_->entropy_rows(sequence) > 0 && config_.attention.entropy_weight != 0.0;
  step_ = std::make_unique<TrainingStep>(
      *model_, *shards_, *optimizer_,
      StepOptions{static_cast<uint64_t>(config_.run.seed), config_.optim.clip, sequence,
                  config_.train.offload == OffloadChoice::activations, config_.run.cuda_graph});
  description_.config_text = to_toml(config_);
  description_.config_hash = fmt::format("{:016x}", config_hash(config_));
  task_->describe(description_);
  description_.mesh = {{"data", layout_.data},
                       {"ring", layout_.ring},
                       {"ulysses", layout_.ulysses},
                       {"tensor", layout_.tensor},
                       {"pipeline", layout_.pipeline}};
  description_.seed = config_.run.seed;
  description_.world = world_.size();
}

void TrainingRun::resume() {
  std::vector<std::string> warnings;
  LoadTargets state;
  const auto loaded = agreed([&] {
    return load_checkpoint(
        request_.resume, config_.run.dir + "/checkpoints", *files_, world_, [&](const Manifest& manifest) {
          warnings = check_resume_config(parse_config(manifest.state.config_text, "checkpoint"), config_);
          check_same_data(manifest, description_, config_.data.allow_change);
          state = state_targets(manifest, *shards_, *optimizer_);
          return state.targets();
        });
  });
  for (const auto& note : loaded.notes) say(note);
  for (const auto& warning : warnings) say(warning);
  if (!loaded.manifest) return;
  take_loaded_state(state, *shards_);
  const auto& saved = loaded.manifest->state;
  position_ = {saved.step, saved.tokens, saved.samples_consumed};
  description_.best.load(saved.loss_statistics);
  loaded_step_ = last_saved_ = outcome_.step = position_.step;
  if (due(eval_every_)) last_evaluated_ = position_.step;  // before it was saved
  say(fmt::format("resumed from {} (step {}, {} tokens)", loaded.path, position_.step, position_.tokens));
}

void TrainingRun::start_services() {
  CheckpointOptions save;
  save.directory = config_.run.dir + "/checkpoints";
  save.keep = config_.checkpoint.keep;
  save.keep_every = config_.checkpoint.keep_every;
  save.loaded_step = loaded_step_;
  save.chunk_bytes = config_.checkpoint.chunk_bytes;
  save.fail_limit = config_.checkpoint.fail_limit;
  save.async = config_.checkpoint.async;
  save.waiting = [this] { keep_alive(); };
  agreed([&] { writer_ = std::make_unique<CheckpointWriter>(save, *files_, world_, lock_.get()); });

  WatchdogOptions guard;
  guard.directory = config_.run.dir + "/hang";
  guard.rank = world_.rank();
  guard.world = world_.size();
  guard.limit = std::chrono::milliseconds(static_cast<int64_t>(config_.guard.watchdog_s * 1000.0));
  watchdog_ = std::make_unique<Watchdog>(guard, world_.flight_log());
  watchdog_->set_last_checkpoint(loaded_step_);

  StreamPlan plan;
  plan.seed = static_cast<uint64_t>(config_.run.seed);
  plan.shuffle = config_.data.shuffle ? Shuffle::samples : Shuffle::none;
  plan.first_sample = position_.samples;
  plan.global_batch = config_.train.batch_samples;
  plan.data_ranks = layout_.data;
  plan.data_rank = mesh_->coordinate().dp;
  plan.micro_batch = layout_.micro_batch;
  plan.prefetch = static_cast<int>(config_.data.prefetch);
  stream_ = task_->train_stream(place(), plan);
  agreed([&] {
    together(world_, [&] {
      if (!is_root()) return;
      metrics_ = std::make_unique<MetricsLog>(config_.run.dir, position_.step);
      task_->save_assets(*files_, config_.run.dir);
    });
  });
}

}  // namespace farsight
