// SPDX-License-Identifier: Apache-2.0
// What is trained: the data a run takes its samples from, the model made for them, how it is judged. The training loop,
// checkpoints, layouts and `verify` are the same for every task.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/reader.h"
#include "parallel/mesh.h"
#include "parallel/parameter_shards.h"
#include "parallel/sequence_order.h"
#include "trainer/config.h"
#include "trainer/dataset.h"
#include "trainer/file_system.h"
#include "trainer/metrics.h"
#include "trainer/trainable.h"
#include "trainer/training_state.h"

namespace farsight {

// Where the ranks of a run stand; outlives the task.
struct TaskPlace {
  Mesh& mesh;
  const RunLayout& layout;
};

struct ValidationResult {
  double loss = 0.0;    // what early stopping and the log go by: mean over all targets, equal on every rank
  StepMetrics metrics;  // for metrics.jsonl: split, loss and what the task adds
  std::string text;     // for the log: "loss 2.4131  perplexity 11.17"
};

class Task {
 public:
  virtual ~Task() = default;

  virtual int64_t train_samples() const = 0;  // of an epoch
  virtual bool has_validation() const = 0;
  // Input tokens of a sample, over all ranks that share it: what throughput counts.
  virtual int64_t tokens_per_sample() const = 0;
  virtual std::string sample_name() const = 0;  // "sequences of 1024 tokens"
  // Positions of a sample over the context ranks.
  virtual SequenceLayout sequence(const RunLayout& layout) const = 0;
  // Samples of this rank as `plan` orders them (its ranges are filled in by the task). Once: the stream takes the
  // training data.
  virtual std::unique_ptr<BatchStream> train_stream(const TaskPlace& place, StreamPlan plan) = 0;

  // This rank's part of the model. Error{config}, Error{data}.
  virtual std::unique_ptr<Trainable> make_model(const MeshShape& mesh, int64_t rank) const = 0;
  virtual double flops_per_token() const = 0;
  // Sets the weights at once where the configuration asks for a solution instead of training; then there is no step.
  // Collective.
  virtual bool solve(Trainable& model, const TaskPlace& place) = 0;

  // Everything in the validation split, or as many batches as eval.batches says. Collective. on_batch (may be empty) is
  // called after each micro-batch.
  virtual ValidationResult validate(Trainable& model, ParameterShards& shards, const TaskPlace& place,
                                    const std::function<void()>& on_batch) = 0;
  // What a look at the model after validation shows (a continued text), as bytes for samples/; nothing where there is
  // nothing to show. Collective; the result is on rank 0.
  virtual std::optional<std::string> show_sample(Trainable& model, ParameterShards& shards) = 0;

  // What checkpoints say about the data.
  virtual void describe(StateDescription& description) const = 0;
  // Files of the run directory that evaluation without the training data needs. Rank 0.
  virtual void save_assets(FileSystem& files, const std::string& directory) const = 0;
  virtual std::string next_command(const std::string& directory) const = 0;
};

// Opens the data of config.task. `where` prefixes messages. Error{data}, Error{config}.
std::unique_ptr<Task> make_task(const Config& config, const DatasetFiles& files, const std::string& where);

// How a validation split is visited: in order, once, `samples` of it.
StreamPlan validation_plan(const TaskPlace& place, int64_t samples, const Config& config);

}  // namespace farsight
