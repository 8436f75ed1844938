// SPDX-License-Identifier: Apache-2.0
#include "trainer/training_run.h"

#include <algorithm>
#include <array>
#include <ostream>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "parallel/agree.h"
#include "parallel/replica_check.h"
#include "trainer/agreed_error.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/generator.h"
#include "trainer/run_device.h"
#include "trainer/run_directory.h"
#include "trainer/signals.h"
#include "trainer/state_slices.h"

namespace farsight {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TrainingRun::TrainingRun(Communicator& world, const TrainRequest& request, std::ostream& out)
    : world_(world), request_(request), config_(request.config), out_(out), files_(make_posix_file_system()) {}

TrainingRun::~TrainingRun() = default;

void TrainingRun::say(const std::string& text) {
  if (console_) console_->line(text);
}

void TrainingRun::keep_alive() {
  if (watchdog_) watchdog_->progress();
  constexpr double kTouchEvery_s = 30.0;
  if (lock_ && seconds_since(touched_) > kTouchEvery_s) {
    lock_->touch();
    touched_ = Clock::now();
  }
}

Snapshot TrainingRun::snapshot() { return make_snapshot(*shards_, *optimizer_, position_, description_); }

TrainOutcome TrainingRun::run() {
  started_ = touched_ = Clock::now();
  prepare();
  say(fmt::format("{} parameters, {} steps of {} {} on {}, {} order, {} threads a rank",
                  model_->parameters().global_count(), total_steps_, config_.train.batch_samples, task_->sample_name(),
                  mesh_->describe(), to_string(layout_.order), thread_count()));
  if (!request_.device.empty()) say("computes on " + request_.device);
  if (!task_->has_validation()) say("no split 'valid' in the data: no evaluation");
  if (agreed([&] { return task_->solve(*model_, place()); })) {
    total_steps_ = 0;
    say("the weights are the solution of the training data: no steps");
  }
  reset_computing_peak();
  while (position_.step < total_steps_ && !patience_is_over()) {
    watchdog_->enter(run_steps_ == 0 ? Section::first_step : Section::step, position_.step);
    train_step();
    check_replicas_now();
    if (run_steps_ == 1) say_what_computes();
    const bool reported = due(log_every_) || last_step();
    if (reported) report();
    if (due(eval_every_)) evaluate_now();
    // After the evaluation: what is saved knows about it, and an evaluation is never done twice.
    const StopRequest stop = agree_and_save();
    if (stop == StopRequest::none) continue;
    if (!reported) report();
    return outcome_;
  }
  if (patience_is_over()) {
    say(fmt::format("no better loss in {} evaluations (train.patience): ended at step {}, best at step {}",
                    description_.best.worse(), position_.step, description_.best.step()));
  }
  finish();
  return outcome_;
}

// Known once every operation has run.
void TrainingRun::say_what_computes() {
  if (current_device() == Device::cpu) return;
  say("CUDA graph: " + step_->graph_use());
  for (const auto& [matter, choice] : cuda_device().notes()) say(fmt::format("{}: {}", matter, choice));
}

// Where a device computes, its next step is started before the outcome of this one is read, so that it never waits for
// the host; a step that is reported, saved or evaluated is read at once.
void TrainingRun::train_step() {
  const auto start = Clock::now();
  const double waited_before = world_.waited_ms();
  const StepBatch* batch = stream_->next();
  keep_alive();
  const int64_t targets = step_->count_targets(batch->valid_labels);
  const double rate = learning_rate(config_.optim, position_.step, span_);
  if (targets == 0) {
    settle(0);
    say(fmt::format("step {}: no valid target in the whole batch; skipped", position_.step + 1));
    interval_.last = {};
  } else {
    started_steps_.push_back({position_, step_->run(*batch, position_.step, targets, rate)});
  }
  position_.step += 1;
  position_.samples += config_.train.batch_samples;
  position_.tokens += config_.train.batch_samples * task_->tokens_per_sample();
  outcome_.step = position_.step;
  const bool looked_at = due(log_every_) || due(save_every_) || due(eval_every_) || last_step() || run_steps_ == 0;
  settle(current_device() == Device::cpu || looked_at ? 0 : 1);
  interval_.rate = rate;
  interval_.exposed_ms += world_.waited_ms() - waited_before;
  collect(*batch, seconds_since(start));
}

void TrainingRun::settle(size_t leave) {
  while (started_steps_.size() > leave) {
    StartedStep oldest = std::move(started_steps_.front());
    started_steps_.pop_front();
    const StepResult result = oldest.outcome.read();
    interval_.last = result;
    outcome_.train_loss = result.loss;
    guard_against_divergence(result, oldest.before);
  }
}

void TrainingRun::guard_against_divergence(const StepResult& result, const TrainingPosition& before) {
  if (result.updated) {
    nonfinite_in_a_row_ = 0;
    return;
  }
  ++nonfinite_in_a_row_;
  say(fmt::format(
      "step {}: loss {} with gradient norm {} is not finite; update skipped ({} in a row, samples {} to {})",
      before.step + 1, result.loss, result.grad_norm, nonfinite_in_a_row_, before.samples,
      before.samples + config_.train.batch_samples - 1));
  if (nonfinite_in_a_row_ < config_.guard.nonfinite_limit) return;
  throw AgreedError(
      Error(ErrorKind::diverged,
            fmt::format("diverged: {} steps in a row without a finite gradient (guard.nonfinite_limit); lower "
                        "optim.lr or resume from an earlier checkpoint",
                        nonfinite_in_a_row_)));
}

void TrainingRun::check_replicas_now() {
  const bool saving = due(save_every_);
  if (!due(config_.guard.replica_check) && !(saving && config_.guard.replica_check > 0)) return;
  agreed([&] { check_replicas(*shards_); });
}

// Everything that only one rank can know becomes global here, once per step.
StopRequest TrainingRun::agree_and_save() {
  if (is_root() && config_.train.time_limit_s > 0.0) {
    const double save_s = writer_->metrics().last_stall_ms / 1e3 + 1.0;
    if (seconds_since(started_) + last_step_s_ + save_s > config_.train.time_limit_s)
      raise_stop_request(StopRequest::save);
  }
  const SaveStatus mine = writer_->status();
  std::array<int64_t, 3> flags{static_cast<int64_t>(stop_request()), mine.busy, mine.failure};
  agree(world_, flags);
  const auto stop = static_cast<StopRequest>(flags[0]);
  const double save_s = writer_->metrics().last_stall_ms / 1e3;
  std::array<int64_t, 1> too_late{
      stop == StopRequest::terminate && last_step_s_ + save_s > config_.train.grace_s ? int64_t{1} : int64_t{0}};
  if (stop == StopRequest::terminate) agree(world_, too_late);
  const bool stopping = stop != StopRequest::none && too_late[0] == 0;
  // The best so far is committed and named before anything newer, for which it could be skipped or removed.
  const bool wait = stopping || improved_, save = wait || due(save_every_);
  improved_ = false;
  if (stop != StopRequest::none) settle(0);
  if (wait) watchdog_->enter(Section::save, position_.step);
  const auto report = agreed([&] {
    return writer_->step({save && position_.step != last_saved_, wait, {flags[1], flags[2]}},
                         [&] { return snapshot(); });
  });
  if (save && !report.skipped) last_saved_ = position_.step;
  if (report.committed_step >= 0) {
    watchdog_->set_last_checkpoint(report.committed_step);
    agreed([&] { together(world_, [&] { name_best(); }); });
  }
  for (const auto& failure : report.failures) {
    say("checkpoint failed: " + failure);
    interval_.checkpoint_failed = failure;
  }
  if (stop == StopRequest::none) return stop;
  outcome_.exit_code = stopping && report.failures.empty() ? 85 : 143;
  const std::string how =
      outcome_.exit_code == 85 ? "stopped on request with a checkpoint saved" : "terminated without a new checkpoint";
  say(fmt::format("{} at step {}; to go on: farsight train {}/config.toml --resume=auto", how, position_.step,
                  config_.run.dir));
  return stop;
}

void TrainingRun::collect(const StepBatch& batch, double seconds) {
  watchdog_->step_took(std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3)));
  last_step_s_ = seconds;
  interval_.steps += 1;
  interval_.seconds += seconds;
  interval_.data_wait_ms += batch.data_wait_ms;
  run_seconds_ += seconds;
  run_steps_ += 1;
  const double left =
      static_cast<double>(total_steps_ - position_.step) * run_seconds_ / static_cast<double>(run_steps_);
  if (console_) console_->progress(position_.step, total_steps_, left);
}

void TrainingRun::report() {
  if (!is_root()) {
    interval_ = {};
    return;
  }
  const auto steps = static_cast<double>(interval_.steps);
  const auto tokens = static_cast<double>(interval_.steps * config_.train.batch_samples * task_->tokens_per_sample());
  StepMetrics m;
  m.step = position_.step;
  m.loss = interval_.last.loss;
  m.grad_norm = interval_.last.grad_norm;
  m.lr = interval_.rate;
  m.tokens = position_.tokens;
  m.tokens_per_s = tokens / interval_.seconds;
  m.flops_per_s = *m.tokens_per_s * flops_per_token_;
  if (request_.ceiling_flops > 0.0) m.fraction_of_ceiling = *m.flops_per_s / request_.ceiling_flops;
  m.memory_peak = computing_memory().peak_bytes;
  m.offloaded_peak = interval_.last.offloaded_peak;
  m.data_wait_ms = interval_.data_wait_ms / steps;
  m.comm_exposed_ms = interval_.exposed_ms / steps;
  m.checkpoint_stall_ms = writer_->metrics().stall_ms;
  if (has_entropy_) m.entropy = interval_.last.entropy;
  m.checkpoint_failed = interval_.checkpoint_failed;
  metrics_->write(m);
  const double left =
      static_cast<double>(total_steps_ - position_.step) * run_seconds_ / static_cast<double>(run_steps_);
  say(step_line(m, total_steps_, left));
  interval_ = {};
}

void TrainingRun::evaluate_now() {
  if (!task_->has_validation() || last_evaluated_ == position_.step) return;
  last_evaluated_ = position_.step;
  watchdog_->enter(Section::evaluation, position_.step);
  ValidationResult result = task_->validate(*model_, *shards_, place(), [&] { keep_alive(); });
  outcome_.valid_loss = result.loss;
  improved_ = description_.best.add(result.loss, position_.step) && config_.train.patience > 0;
  if (is_root()) {
    result.metrics.step = position_.step;
    result.metrics.split = "valid";
    result.metrics.tokens = position_.tokens;
    result.metrics.memory_peak = computing_memory().peak_bytes;
    metrics_->write(result.metrics);
    say(fmt::format("valid {}/{}  {}", position_.step, total_steps_, result.text));
  }
  write_sample();
}

void TrainingRun::name_best() {
  const int64_t best = description_.best.step();
  if (!is_root() || config_.train.patience == 0 || best < 0 || best == named_best_) return;
  const std::string directory = config_.run.dir + "/checkpoints";
  if (!exists(*files_, directory + "/" + step_name(best))) return;  // not committed yet
  mark_best(*files_, directory, best);
  named_best_ = best;
}

void TrainingRun::write_sample() {
  const auto bytes = task_->show_sample(*model_, *shards_);
  if (!bytes) return;
  const std::string folder = config_.run.dir + "/samples";
  make_directories(*files_, folder);
  replace_file(*files_, fmt::format("{}/step-{:08}.txt", folder, position_.step), *bytes + "\n");
  say("sample: " + printable(*bytes, nullptr));
}

void TrainingRun::finish() {
  watchdog_->enter(Section::save, position_.step);
  if (eval_every_ > 0) evaluate_now();
  watchdog_->enter(Section::save, position_.step);
  if (last_saved_ != position_.step) {
    agreed([&] {
      check_replicas(*shards_);
      const SaveStatus mine = writer_->status();
      std::array<int64_t, 2> flags{mine.busy, mine.failure};
      agree(world_, flags);
      const auto report = writer_->step({true, true, {flags[0], flags[1]}}, [&] { return snapshot(); });
      if (!report.failures.empty()) {
        fail(ErrorKind::io, "the final checkpoint could not be saved: {}; free space in '{}' and pass --resume=auto",
             report.failures.front(), config_.run.dir);
      }
    });
  }
  agreed([&] { writer_->finish(); });
  agreed([&] { together(world_, [&] { name_best(); }); });
  if (current_device() == Device::cuda) say("CUDA graph: " + step_->graph_use());
  say(fmt::format("finished {} steps in {}; next: {}", position_.step, show_duration(run_seconds_),
                  task_->next_command(config_.run.dir)));
}

void TrainingRun::record_exit(int code, const std::string& reason, const std::string& message) noexcept {
  if (!lock_) return;
  try {
    write_exit_record(*files_, config_.run.dir, {code, reason, position_.step, message});
  } catch (const std::exception& error) {
    out_ << "exit.json could not be written: " << error.what() << std::endl;
  }
}

TrainOutcome train(Communicator& world, const TrainRequest& request, std::ostream& out) {
  TrainingRun run(world, request, out);
  try {
    const TrainOutcome outcome = run.run();
    run.record_exit(outcome.exit_code,
                    outcome.exit_code == 0    ? "finished"
                    : outcome.exit_code == 85 ? "stopped"
                                              : "terminated",
                    "");
    return outcome;
  } catch (const Error& error) {
    const bool diverged = error.kind() == ErrorKind::diverged;
    const bool replicas = diverged && std::string(error.what()).find("diverged:") != 0;
    run.record_exit(exit_code(error.kind()),
                    replicas   ? "replicas_differ"
                    : diverged ? "diverged"
                               : "error",
                    error.what());
    throw;
  }
}

}  // namespace farsight
