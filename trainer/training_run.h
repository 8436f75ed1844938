// SPDX-License-Identifier: Apache-2.0
// Everything a training run holds, built in the order in which things can fail: layout, run directory and lock, data,
// model, checkpoint, then the loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/watchdog.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/metrics.h"
#include "trainer/optimizer.h"
#include "trainer/run_lock.h"
#include "trainer/signals.h"
#include "trainer/task.h"
#include "trainer/train.h"
#include "trainer/training_state.h"
#include "trainer/training_step.h"

namespace farsight {

class TrainingRun {
 public:
  TrainingRun(Communicator& world, const TrainRequest& request, std::ostream& out);
  ~TrainingRun();
  TrainingRun(const TrainingRun&) = delete;
  TrainingRun& operator=(const TrainingRun&) = delete;

  TrainOutcome run();
  // exit.json on rank 0 once the run directory is ours; never throws.
  void record_exit(int code, const std::string& reason, const std::string& message) noexcept;

 private:
  using Clock = std::chrono::steady_clock;

  // Set-up, in this order.
  void prepare();
  void take_directory();
  void open_data();
  void build_model();
  void resume();
  void start_services();

  // One step and what may follow it.
  void train_step();
  // Reads the outcomes of started steps, all but the newest `leave`.
  void settle(size_t leave);
  struct StartedStep {
    TrainingPosition before;  // of the run
    StepOutcome outcome;
  };
  void guard_against_divergence(const StepResult& result, const TrainingPosition& before);
  void check_replicas_now();
  StopRequest agree_and_save();
  void say_what_computes();
  void collect(const StepBatch& batch, double seconds);
  void report();
  void evaluate_now();
  // On rank 0: BEST names the best checkpoint once that is committed.
  void name_best();
  void write_sample();
  void finish();
  TaskPlace place() { return {*mesh_, layout_}; }
  bool due(int64_t interval) const { return interval > 0 && position_.step % interval == 0; }
  bool last_step() const { return position_.step == total_steps_; }
  bool patience_is_over() const { return description_.best.exhausted(config_.train.patience); }
  bool is_root() const { return world_.rank() == 0; }
  void say(const std::string& text);
  Snapshot snapshot();
  void keep_alive();

  Communicator& world_;
  const TrainRequest& request_;
  const Config& config_;
  std::ostream& out_;
  RunLayout layout_;
  std::unique_ptr<FileSystem> files_;
  std::unique_ptr<RunLock> lock_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<Console> console_;
  std::unique_ptr<Watchdog> watchdog_;
  DatasetFiles dataset_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<Trainable> model_;
  std::unique_ptr<ParameterShards> shards_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<TrainingStep> step_;
  std::deque<StartedStep> started_steps_;  // whose outcomes have not been read, oldest first
  std::unique_ptr<CheckpointWriter> writer_;
  std::unique_ptr<BatchStream> stream_;
  std::unique_ptr<MetricsLog> metrics_;
  StateDescription description_;
  TrainingPosition position_;
  int64_t loaded_step_ = -1;

  int64_t total_steps_ = 0, eval_every_ = 0, save_every_ = 0, log_every_ = 0;
  int64_t last_saved_ = -1, last_evaluated_ = -1, named_best_ = -1, nonfinite_in_a_row_ = 0;
  RateSpan span_;
  bool improved_ = false;  // by the evaluation of this step: it is saved
  double flops_per_token_ = 0.0;
  bool has_entropy_ = false;  // in the loss
  TrainOutcome outcome_;
  Clock::time_point started_, touched_;
  double last_step_s_ = 0.0;

  struct Interval {  // since the last report
    int64_t steps = 0;
    double seconds = 0.0, data_wait_ms = 0.0, exposed_ms = 0.0, stall_ms = 0.0;
    StepResult last;
    double rate = 0.0;
    std::string checkpoint_failed;
  } interval_;
  double run_seconds_ = 0.0;  // in steps of this process
  int64_t run_steps_ = 0;
};

}  // namespace farsight
