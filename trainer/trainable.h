// SPDX-License-Identifier: Apache-2.0
// What the training loop knows of a model: its parameters, and the loss of a micro-batch. Language models (model.h) and
// forecasters (forecast/forecast_model.h) are both this.
#pragma once

#include <cstdint>
#include <vector>

#include "data/sample_source.h"
#include "kernels/parameter.h"
#include "kernels/tape.h"
#include "parallel/mesh.h"
#include "parallel/parameter_shards.h"
#include "parallel/sequence_order.h"
#include "trainer/model_placement.h"

namespace farsight {

// Where in training a forward pass happens: keys of every random draw, and the loss scale.
struct ModelPass {
  uint64_t seed = 0;
  uint64_t step = 0;
  double loss_scale = 1.0;            // 1 / valid targets of the whole optimizer step
  double entropy_scale = 0.0;         // 1 / rows of the whole optimizer step
  int64_t rows = 0;                   // samples of this pass over all data ranks; batch norms divide by it
  bool training = true;               // dropout and label smoothing on
  ParameterShards* shards = nullptr;  // parameters that come and go; null: all are here
};

// Sums over what this rank has computed, so that the sum over the world counts everything once; natural log, not
// scaled. They lie where the model computes.
struct ModelSums {
  Tensor loss;     // f64 [1]: losses of valid targets
  Tensor entropy;  // f64 [1]: row entropies over layers, heads and rows; only with entropy_weight
};

class Trainable {
 public:
  Trainable() = default;
  virtual ~Trainable() = default;
  Trainable(const Trainable&) = delete;
  Trainable& operator=(const Trainable&) = delete;

  ParameterStore& parameters() { return store_; }
  const ParameterStore& parameters() const { return store_; }
  const std::vector<Placement>& placements() const { return placements_; }  // one per parameter

  // Forward pass of one micro-batch with its loss, the scalar (scaled) to call backward on. Adds to the sums; the host
  // does not wait for a device. `layout`: positions of a sample over the context ranks. The batch and the mesh outlive
  // the tape. Collective over the ranks that share samples, and over data ranks where a model normalises over them.
  virtual Var micro_batch_loss(Tape& tape, Mesh& mesh, const SequenceLayout& layout, const MicroBatch& batch,
                               const ModelPass& pass, const ModelSums& sums) = 0;

  // Rows of attention weights of one sample whose entropy is in the loss, over layers, heads and ranks; 0 = none.
  virtual int64_t entropy_rows(const SequenceLayout& layout) const = 0;

 protected:
  // What a model registers, and how each parameter lies over the ranks.
  ParameterStore store_;
  std::vector<Placement> placements_;
};

}  // namespace farsight
