// SPDX-License-Identifier: Apache-2.0
// Decoder-only language model: embedding, pre-norm blocks of attention and MLP, final norm, language-model head.
// With norm = layer, mlp = gelu, position = learned, bias it is the GPT-2 family; with rms, swiglu, rope the Llama
// family. The model sees only this rank's tokens, with their global positions; attention crosses the context ranks, and
// weights are cut over the tensor ranks (model_placement.h).
//
// Parameter names (layer numbers are global):
//   embedding.weight [V, C]   position.weight [T, C]
//   layers.N.attention.norm.weight, .q.weight [H*D, C], .k.weight, .v.weight [Hkv*D, C], .out.weight [C, H*D]
//   layers.N.attention.q_norm.weight [D], .k_norm.weight [D]     with qk_norm
//   layers.N.attention.score.weight [H, D]                       additive score only
//   layers.N.mlp.norm.weight, .gate.weight [F, C] (swiglu), .up.weight [F, C], .down.weight [C, F]
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

namespace farsight {

enum class MlpKind : uint8_t { swiglu, gelu };
enum class PositionKind : uint8_t { rope, learned, none };

struct ModelSpec {
  int64_t vocab = 0;
  int64_t layers = 0, width = 0, heads = 0, kv_heads = 0, head_width = 0, mlp_width = 0;
  int64_t max_positions = 0;  // rows of the learned position table
  MlpKind mlp = MlpKind::swiglu;
  NormKind norm = NormKind::rms;
  PositionKind position = PositionKind::rope;
  bool tie_embeddings = true;
  bool bias = false;
  bool qk_norm = false;  // rms norm of each head of q and k, before the rotation
  float norm_eps = 1e-5F;
  double rope_theta = 10000.0;
  double dropout = 0.0;          // embedding and residual branches
  double label_smoothing = 0.0;  // of the training loss
  double entropy_weight = 0.0;   // loss += weight * mean row entropy over layers, heads and rows
  bool recompute_layers = false;
  bool keep_attention = false;  // of recomputed layers: the results of attention
  int64_t mlp_chunk = 0;        // rows of the MLP computed at once, again in backward; 0 = all, kept
  int64_t loss_chunk = 0;       // rows of logits held at once; 0 = chosen from the vocabulary
  AttentionSpec attention;      // score, mask, bias, dropout
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

  struct Layer {
    Parameter *attention_norm, *attention_norm_bias;
    std::vector<Parameter*> qkv, qkv_bias;
    Parameter *q_norm, *k_norm, *score, *out, *out_bias;
    Parameter *mlp_norm, *mlp_norm_bias;
    std::vector<Parameter*> up, up_bias;  // gate and up, or up alone
    Parameter *down, *down_bias;
  };
  const std::vector<Layer>& layers() const { return layers_; }
  Parameter& embedding() const { return *embedding_; }
  Parameter* position_table() const { return position_; }
  Parameter& final_norm() const { return *final_norm_; }
  Parameter* final_norm_bias() const { return final_norm_bias_; }
  Parameter& head() const { return *head_; }

 private:
  struct Stream {  // what flows between layers: the residual, and the branch not yet added to it
    Var branch, residual;
  };
  struct PassState;
  Var embed(Tape& tape, const PassState& state);
  Stream block(Tape& tape, size_t index, const Stream& in, const PassState& state, Var* entropy,
               AttentionSaved* saved = nullptr);
  // One value goes in, the branch added to the residual: it is what waits for backward.
  Stream recomputed_block(Tape& tape, size_t index, const Stream& in, const std::shared_ptr<const PassState>& state,
                          Var* entropy);
  Var attention_branch(Tape& tape, size_t index, const Var& x, const PassState& state, Var* entropy,
                       AttentionSaved* saved);
  Var mlp_branch(Tape& tape, const Layer& layer, const Var& x, const PassState& state);
  Var head_loss(Tape& tape, const Var& x, const PassState& state, const ModelSums& sums);

  Parameter* add(const std::string& name, Shape shape, Init init, const Placement& placement, bool adjoin = false);
  void add_layer(int64_t index);
  void add_attention(const std::string& prefix, Layer& layer, Init branch_end);
  void add_mlp(const std::string& prefix, Layer& layer, Init branch_end);
  Parameter* add_norm_bias(const std::string& name);

  ModelSpec spec_;
  ModelSharding sharding_;
  ModelPlacement place_;
  std::vector<Layer> layers_;
  Parameter* embedding_ = nullptr;
  Parameter* position_ = nullptr;
  Parameter* final_norm_ = nullptr;
  Parameter* final_norm_bias_ = nullptr;
  Parameter* head_ = nullptr;
};

// The sequence description of a micro-batch of tokens, equal on all its context ranks.
SequenceBatch sequence_batch(const MicroBatch& micro, const SequenceLayout& layout);

}  // namespace farsight
