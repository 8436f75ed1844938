// SPDX-License-Identifier: Apache-2.0
// The blocks of a pre-norm transformer over the ranks of a sequence: attention and MLP with residuals, parameters
// placed over the tensor ranks, layers that come and go (ZeRO), recomputation. Language models and long-sequence
// forecasters put an embedding before it and a head behind.
//
// Parameter names (layer numbers are global), weights by rows and columns as model_placement.h says:
//   layers.N.attention.norm.weight, .q.weight [H*D, C], .k.weight, .v.weight [Hkv*D, C], .out.weight [C, H*D]
//   layers.N.attention.q_norm.weight [D], .k_norm.weight [D]     with qk_norm
//   layers.N.attention.score.weight [H, D]                       additive score only
//   layers.N.mlp.norm.weight, .gate.weight [F, C] (swiglu), .up.weight [F, C], .down.weight [C, F]
// and .bias beside each where the model has biases.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/attention/spec.h"
#include "kernels/norm.h"
#include "kernels/parameter.h"
#include "kernels/rope.h"
#include "kernels/tape.h"
#include "parallel/mesh.h"
#include "parallel/parameter_shards.h"
#include "parallel/sequence_batch.h"
#include "parallel/tensor_parallel.h"
#include "trainer/loss.h"
#include "trainer/model_placement.h"
#include "trainer/trainable.h"

namespace farsight {

enum class MlpKind : uint8_t { swiglu, gelu };
enum class PositionKind : uint8_t { rope, learned, none };

struct TransformerSpec {
  int64_t layers = 0, width = 0, heads = 0, kv_heads = 0, head_width = 0, mlp_width = 0;
  MlpKind mlp = MlpKind::swiglu;
  NormKind norm = NormKind::rms;
  PositionKind position = PositionKind::rope;  // learned: whoever embeds adds it
  bool bias = false;
  bool qk_norm = false;  // rms norm of each head of q and k, before the rotation
  float norm_eps = 1e-5F;
  double rope_theta = 10000.0;
  double dropout = 0.0;         // embedding and residual branches
  double entropy_weight = 0.0;  // loss += weight * mean row entropy over layers, heads and rows
  bool recompute_layers = false;
  bool keep_attention = false;  // of recomputed layers: the results of attention
  int64_t mlp_chunk = 0;        // rows of the MLP computed at once, again in backward; 0 = all, kept
  AttentionSpec attention;      // score, mask, bias, dropout
};

// Registers a parameter of a model: name, logical shape, start, place; adjoin as ParameterStore::add.
struct AddParameter {
  std::function<Parameter*(const std::string&, const Shape&, Init, const Placement&, bool)> run;
  Parameter* operator()(const std::string& name, const Shape& shape, Init init, const Placement& placement,
                        bool adjoin = false) const {
    return run(name, shape, init, placement, adjoin);
  }
};

// Normal initial weights of this width; constants.
Init normal_init(double sigma);
Init constant_init(double value);
inline constexpr double kInitSigma = 0.02;

// What every layer of one forward pass shares; kept alive by the segments that backward replays.
class TransformerPass {
 public:
  // The rows of this rank: `rows` of `sequence`, `count` of them. All that is referred to outlives backward.
  TransformerPass(const TransformerSpec& spec, const ModelSharding& sharding, Mesh& mesh, const SequenceBatch& sequence,
                  const SequenceRows& rows, int64_t count, const ModelPass& pass);

  bool sharded() const { return tensor.comm->size() > 1; }
  // Rows that this rank holds between blocks.
  int64_t first_row() const { return tensor.first_row(tensor.comm->rank()); }
  int64_t row_count() const { return tensor.row_count(tensor.comm->rank()); }
  std::vector<uint64_t> keys(size_t layer, Site site) const;
  DropoutSite dropout(double p, const std::vector<uint64_t>& site_keys) const;
  // Products with weights cut by output rows and by input columns.
  Var column(Tape& tape, const Var& x, std::span<Parameter* const> weights, std::span<Parameter* const> biases) const;
  Var row(Tape& tape, const Var& x, Parameter& weight, Parameter* bias) const;

  Mesh* mesh;
  const SequenceBatch* sequence;
  const SequenceRows* rows;
  ModelPass pass;
  TensorGroup tensor;
  RopeTable rope;
  Tensor positions;  // of this rank's tokens, where the operations run
};

class TransformerStack {
 public:
  struct Layer {
    Parameter *attention_norm, *attention_norm_bias;
    std::vector<Parameter*> qkv, qkv_bias;
    Parameter *q_norm, *k_norm, *score, *out, *out_bias;
    Parameter *mlp_norm, *mlp_norm_bias;
    std::vector<Parameter*> up, up_bias;  // gate and up, or up alone
    Parameter *down, *down_bias;
  };

  // Registers the parameters of the layers through `add`; `begin_unit` is called before each layer.
  // Throws Error{config} when the heads cannot be dealt to the tensor ranks.
  TransformerStack(const TransformerSpec& spec, const ModelSharding& sharding, const AddParameter& add,
                   const std::function<void()>& begin_unit);

  const std::vector<Layer>& layers() const { return layers_; }
  const ModelPlacement& place() const { return place_; }

  // All layers and the norm behind them. `embedded`: the rows of this rank between blocks; unit i + 1 of the shards is
  // layer i. Row entropies are added to sums.entropy and to `terms` (the first of which is left to the caller).
  Var run(Tape& tape, const Var& embedded, const std::shared_ptr<const TransformerPass>& state, Parameter& final_norm,
          Parameter* final_norm_bias, const ModelSums& sums, std::vector<LossTerm>& terms) const;

 private:
  struct Stream {  // what flows between layers: the residual, and the branch not yet added to it
    Var branch, residual;
  };
  Stream block(Tape& tape, size_t index, const Stream& in, const TransformerPass& state, Var* entropy,
               AttentionSaved* saved = nullptr) const;
  // One value goes in, the branch added to the residual: it is what waits for backward.
  Stream recomputed_block(Tape& tape, size_t index, const Stream& in,
                          const std::shared_ptr<const TransformerPass>& state, Var* entropy) const;
  Var attention_branch(Tape& tape, size_t index, const Var& x, const TransformerPass& state, Var* entropy,
                       AttentionSaved* saved) const;
  Var mlp_branch(Tape& tape, const Layer& layer, const Var& x, const TransformerPass& state) const;

  void add_layer(int64_t index, const AddParameter& add);
  void add_attention(const std::string& prefix, Layer& layer, Init branch_end, const AddParameter& add) const;
  void add_mlp(const std::string& prefix, Layer& layer, Init branch_end, const AddParameter& add) const;
  Parameter* add_norm_bias(const std::string& name, const AddParameter& add) const;

  TransformerSpec spec_;
  ModelSharding sharding_;
  ModelPlacement place_;
  std::vector<Layer> layers_;
};

}  // namespace farsight
