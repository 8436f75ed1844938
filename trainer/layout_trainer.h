// SPDX-License-Identifier: Apache-2.0
// What trains a configuration in one layout, on the device of the thread, without run directory, log or clock: for
// comparisons of layouts, for checkpoints that change their layout, for gradient checks.
#pragma once

#include <cstdint>
#include <memory>

#include "data/reader.h"
#include "parallel/comm.h"
#include "parallel/mesh.h"
#include "parallel/parameter_shards.h"
#include "trainer/config.h"
#include "trainer/dataset.h"
#include "trainer/optimizer.h"
#include "trainer/task.h"
#include "trainer/training_state.h"
#include "trainer/training_step.h"

namespace farsight {

class LayoutTrainer {
 public:
  // The layout that the parallel keys of `config` say, on the ranks of `world`; initial weights of its seed, step 0.
  // Collective. `world` outlives the object. Error{config} for a layout that cannot be, Error{data}.
  LayoutTrainer(Communicator& world, const Config& config, const DatasetFiles& files);

  Mesh& mesh() { return mesh_; }
  const RunLayout& layout() const { return layout_; }
  const SequenceLayout& sequence() const { return sequence_; }
  Trainable& model() { return *model_; }
  const Task& task() const { return *task_; }
  ParameterShards& shards() { return shards_; }
  Optimizer& optimizer() { return optimizer_; }

  const TrainingPosition& position() const { return position_; }
  // After a load: where to go on. Before the first batch() only.
  void set_position(const TrainingPosition& position);

  // The batch of the current step; the same until update().
  const StepBatch& batch();
  // Forward, backward and reduction of the current step. Collective. Error{data} when the batch has no target.
  StepResult accumulate();
  // What training minimises, of the current step: mean cross-entropy with its smoothing, plus weighted entropy. Forward
  // only, with the draws of training. Collective.
  double objective();
  // Clips, updates with this learning rate unless the gradient is not finite, goes on to the next step. Collective.
  void update(double rate);

 private:
  Config config_;
  RunLayout layout_;
  Mesh mesh_;
  std::unique_ptr<Task> task_;
  SequenceLayout sequence_;
  std::unique_ptr<Trainable> model_;
  ParameterShards shards_;
  Optimizer optimizer_;
  TrainingStep step_;
  TrainingPosition position_;
  int64_t targets_ = 0;  // of the current step; 0 = not counted yet
  std::unique_ptr<BatchStream> stream_;
  const StepBatch* batch_ = nullptr;

  int64_t targets();
};

}  // namespace farsight
