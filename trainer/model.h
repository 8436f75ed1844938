// SPDX-License-Identifier: Apache-2.0
// Decoder-only language model: embedding, pre-norm blocks of attention and MLP, final norm, language-model head.
// With norm = layer, mlp = gelu, position = learned, bias it is the GPT-2 family; with rms, swiglu, rope the Llama
// family. The model sees only this rank's tokens, with their global positions; attention crosses the context ranks, and
// weights are cut over the tensor ranks (model_placement.h).
//
// Parameter names (layer numbers are global):
//   embedding.weight [V, C]   position.weight [T, C]
//   layers.N...                                                  transformer.h
//   final_norm.weight   head.weight [V, C]                       head only without tied embeddings
// and .bias beside each where the model has biases.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/attention/spec.h"
#include "kernels/norm.h"
#include "kernels/parameter.h"
#include "kernels/tape.h"
#include "parallel/mesh.h"
#include "parallel/parameter_shards.h"
#include "parallel/sequence_batch.h"
#include "trainer/model_placement.h"
#include "trainer/trainable.h"
#include "trainer/transformer.h"

namespace farsight {

struct ModelSpec : TransformerSpec {
  int64_t vocab = 0;
  int64_t max_positions = 0;  // rows of the learned position table
  bool tie_embeddings = true;
  double label_smoothing = 0.0;  // of the training loss
  int64_t loss_chunk = 0;        // rows of logits held at once; 0 = chosen from the vocabulary
};

// One micro-batch as this rank sees it: B rows, n local positions. What it refers to must outlive backward.
struct ModelBatch {
  const SequenceBatch* sequence = nullptr;  // order, documents and sample numbers, the same on all context ranks
  const SequenceRows* rows = nullptr;       // positions of this rank's tokens
  std::span<const int32_t> inputs;          // [B * n]
  std::span<const int32_t> labels;          // [B * n], -1 = not a target
};

class LanguageModel : public Trainable {
 public:
  // Registers this rank's parameters; `parameters().allocate()` or ParameterShards allocates them. Unit 0 is the
  // embedding, unit i + 1 layer i, the last one the final norm and the head.
  // Throws Error{config} when the heads cannot be dealt to the tensor ranks.
  explicit LanguageModel(const ModelSpec& spec, const ModelSharding& sharding = {});

  const ModelSharding& sharding() const { return sharding_; }
  const ModelSpec& spec() const { return spec_; }

  Var micro_batch_loss(Tape& tape, Mesh& mesh, const SequenceLayout& layout, const MicroBatch& batch,
                       const ModelPass& pass, const ModelSums& sums) override;
  int64_t entropy_rows(const SequenceLayout& layout) const override;

  // The same for tokens that are at hand. Collective over context and tensor ranks. `mesh` has the shape of the
  // sharding and outlives the tape.
  Var loss(Tape& tape, Mesh& mesh, const ModelBatch& batch, const ModelPass& pass, const ModelSums& sums);

  const std::vector<TransformerStack::Layer>& layers() const { return stack_->layers(); }
  Parameter& embedding() const { return *embedding_; }
  Parameter* position_table() const { return position_; }
  Parameter& final_norm() const { return *final_norm_; }
  Parameter* final_norm_bias() const { return final_norm_bias_; }
  Parameter& head() const { return *head_; }

 private:
  Var embed(Tape& tape, const TransformerPass& state, std::span<const int32_t> inputs);
  Var head_loss(Tape& tape, const Var& x, const TransformerPass& state, std::span<const int32_t> labels,
                const ModelSums& sums);
  Parameter* add(const std::string& name, const Shape& shape, Init init, const Placement& placement,
                 bool adjoin = false);

  ModelSpec spec_;
  ModelSharding sharding_;
  std::unique_ptr<TransformerStack> stack_;
  Parameter* embedding_ = nullptr;
  Parameter* position_ = nullptr;
  Parameter* final_norm_ = nullptr;
  Parameter* final_norm_bias_ = nullptr;
  Parameter* head_ = nullptr;
};

// The sequence description of a micro-batch of tokens, equal on all its context ranks.
SequenceBatch sequence_batch(const MicroBatch& micro, const SequenceLayout& layout);

}  // namespace farsight
