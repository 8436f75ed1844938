// SPDX-License-Identifier: Apache-2.0
#include "trainer/model.h"

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gelu.h"
#include "kernels/gelu_mlp.h"
#include "kernels/linear.h"
#include "kernels/random.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "kernels/totals.h"
#include "parallel/tensor_parallel.h"
#include "parallel/tiled_rows.h"
#include "trainer/loss.h"

namespace farsight {

// What every layer of one pass shares; kept alive by the segments that backward replays.
struct LanguageModel::PassState {
  Mesh* mesh;
  ModelBatch batch;
  ModelPass pass;
  TensorGroup tensor;
  RopeTable rope;
  Tensor positions;  // of this rank's tokens, where the operations run

  bool sharded() const { return tensor.comm->size() > 1; }
  // Rows that this rank holds between blocks.
  int64_t first_row() const { return tensor.first_row(tensor.comm->rank()); }
  int64_t row_count() const { return tensor.row_count(tensor.comm->rank()); }
  std::vector<uint64_t> keys(size_t layer, Site site) const {
    return batch.sequence->keys(pass.seed, pass.step, layer, site);
  }
  DropoutSite dropout(double p, const std::vector<uint64_t>& site_keys) const {
    DropoutSite site{pass.training ? p : 0.0, site_keys, positions, positions.dim(1)};
    site.first_row = first_row();
    site.row_count = row_count();
    return site;
  }
  // Products with weights cut by output rows and by input columns.
  Var column(Tape& tape, const Var& x, std::span<Parameter* const> weights, std::span<Parameter* const> biases) const {
    return sharded() ? column_linear(tape, tensor, x, weights, biases) : linear_group(tape, x, weights, biases);
  }
  Var row(Tape& tape, const Var& x, Parameter& weight, Parameter* bias) const {
    return sharded() ? row_linear(tape, tensor, x, weight, bias) : linear(tape, x, weight, bias);
  }
};

Var LanguageModel::embed(Tape& tape, const PassState& state) {
  const auto keys = state.keys(0, Site::embedding);
  const DropoutSite drop = state.dropout(spec_.dropout, keys);
  const auto places = state.batch.rows->relative.span<int32_t>();
  if (!state.sharded()) {
    return farsight::embedding(tape, state.batch.inputs, *embedding_, position_, places, &drop);
  }
  const Var whole = scatter_sum(tape, state.tensor, partial_embedding(tape, state.batch.inputs, *embedding_));
  const auto own = places.subspan(static_cast<size_t>(state.first_row()), static_cast<size_t>(state.row_count()));
  return add_positions(tape, whole, position_, own, &drop);
}

Var LanguageModel::attention_branch(Tape& tape, size_t index, const Var& x, const PassState& state, Var* entropy,
                                    AttentionSaved* saved) {
  const Layer& layer = layers_[index];
  const int64_t q_width = place_.heads() * spec_.head_width;
  const int64_t kv_width = place_.kv_heads() * spec_.head_width;
  const Var qkv = state.column(tape, x, layer.qkv, layer.qkv_bias);
  auto parts = tape.split_last(qkv, {q_width, kv_width, kv_width});
  if (spec_.qk_norm) {
    parts[0] = norm(tape, parts[0], *layer.q_norm, nullptr, NormKind::rms, spec_.norm_eps);
    parts[1] = norm(tape, parts[1], *layer.k_norm, nullptr, NormKind::rms, spec_.norm_eps);
  }
  if (spec_.position == PositionKind::rope) std::tie(parts[0], parts[1]) = rope(tape, parts[0], parts[1], state.rope);
  ContextOptions options;
  options.heads = place_.heads();
  options.kv_heads = place_.kv_heads();
  options.first_head = place_.first_head();
  options.gather_heads = sharding_.gather_heads;
  options.seed = state.pass.seed;
  options.step = state.pass.step;
  options.layer = index;
  options.score_vectors = layer.score;
  options.saved = saved;
  AttentionSpec attention = spec_.attention;
  if (!state.pass.training) attention.dropout = 0.0;
  if (!attention.alibi_slopes.empty()) {
    const auto first = spec_.attention.alibi_slopes.begin() + place_.first_head();
    attention.alibi_slopes.assign(first, first + place_.heads());
  }
  Mesh& mesh = *state.mesh;
  const ContextGroups groups{mesh.ring(), mesh.uly(), mesh.cp(), mesh.self()};
  const ContextScheme scheme = sharding_.context.empty() ? ContextScheme::two_d : sharding_.context[index];
  auto result =
      context_attention(tape, groups, scheme, attention, parts[0], parts[1], parts[2], *state.batch.sequence, options);
  for (const Var& part : parts) part.drop_value();  // with dealt heads nothing reads them again
  if (attention.entropy) *entropy = result.entropy;
  return state.row(tape, result.out, *layer.out, layer.out_bias);
}

namespace {

Var activate(Tape& tape, MlpKind kind, const Var& up) {
  return kind == MlpKind::swiglu ? swiglu(tape, up) : gelu(tape, up);
}

// The MLP without messages: all of it, or a tensor rank's part of the sum.
Var own_mlp(Tape& tape, MlpKind kind, const Var& x, const LanguageModel::Layer& layer, Parameter* down_bias) {
  if (kind == MlpKind::gelu) {
    Parameter* const up_bias = layer.up_bias.empty() ? nullptr : layer.up_bias.front();
    return gelu_mlp(tape, x, {*layer.up.front(), up_bias, *layer.down, down_bias});
  }
  const Var hidden = activate(tape, kind, linear_group(tape, x, layer.up, layer.up_bias));
  return linear(tape, hidden, *layer.down, down_bias);
}

}  // namespace

Var LanguageModel::mlp_branch(Tape& tape, const Layer& layer, const Var& x, const PassState& state) {
  if (spec_.mlp_chunk == 0 && !state.sharded()) return own_mlp(tape, spec_.mlp, x, layer, layer.down_bias);
  if (spec_.mlp_chunk == 0) {
    const Var hidden = activate(tape, spec_.mlp, column_linear(tape, state.tensor, x, layer.up, layer.up_bias));
    return row_linear(tape, state.tensor, hidden, *layer.down, layer.down_bias);
  }
  std::vector<Parameter*> parameters = layer.up;
  parameters.insert(parameters.end(), layer.up_bias.begin(), layer.up_bias.end());
  parameters.push_back(layer.down);
  return tiled_rows(
      tape, state.tensor, x, spec_.mlp_chunk, spec_.width, parameters, layer.down_bias,
      [&layer, kind = spec_.mlp](Tape& t, const Var& rows) { return own_mlp(t, kind, rows, layer, nullptr); });
}

LanguageModel::Stream LanguageModel::block(Tape& tape, size_t index, const Stream& in, const PassState& state,
                                           Var* entropy, AttentionSaved* saved) {
  const Layer& layer = layers_[index];
  const auto before = state.keys(index == 0 ? 0 : index - 1, Site::mlp_residual);
  const auto after = state.keys(index, Site::attention_residual);
  const DropoutSite drop_mlp = state.dropout(spec_.dropout, before);
  const DropoutSite drop_attention = state.dropout(spec_.dropout, after);
  auto first = norm_residual(tape, in.branch, in.residual, *layer.attention_norm, layer.attention_norm_bias, spec_.norm,
                             spec_.norm_eps, &drop_mlp);
  if (in.branch.defined()) in.branch.drop_value();  // it lives on in the residual
  const Var attended = attention_branch(tape, index, first.normed, state, entropy, saved);
  auto second = norm_residual(tape, attended, first.residual, *layer.mlp_norm, layer.mlp_norm_bias, spec_.norm,
                              spec_.norm_eps, &drop_attention);
  attended.drop_value();
  return {mlp_branch(tape, layer, second.normed, state), second.residual};
}

LanguageModel::Stream LanguageModel::recomputed_block(Tape& tape, size_t index, const Stream& in,
                                                      const std::shared_ptr<const PassState>& state, Var* entropy) {
  Var input = in.residual;
  if (in.branch.defined()) {
    const auto keys = state->keys(index - 1, Site::mlp_residual);
    input = add_dropout(tape, in.branch, in.residual, state->dropout(spec_.dropout, keys));
    in.branch.drop_value();
    in.residual.drop_value();
  }
  const auto saved = spec_.keep_attention ? std::make_shared<AttentionSaved>() : nullptr;
  auto outs = tape.recompute({input}, [this, index, state, saved](Tape& segment, const std::vector<Var>& given) {
    Var rows;
    const Stream result = block(segment, index, {Var(), given[0]}, *state, &rows, saved.get());
    std::vector<Var> values{result.branch, result.residual};
    if (rows.defined()) values.push_back(rows);
    return values;
  });
  if (outs.size() > 2) *entropy = outs[2];
  return {outs[0], outs[1]};
}

Var LanguageModel::head_loss(Tape& tape, const Var& x, const PassState& state, const ModelSums& sums) {
  CrossEntropyOptions options;
  options.scale = state.pass.loss_scale;
  options.label_smoothing = state.pass.training ? static_cast<float>(spec_.label_smoothing) : 0.0F;
  options.chunk_rows = spec_.loss_chunk;
  VocabularyShard shard;
  Var rows = x;
  if (state.sharded()) {
    Communicator* ranks = state.tensor.comm;
    shard.first = head_->slice.first[0];
    shard.vocabulary = head_->slice.global[0];
    shard.all_reduce_max = [ranks](const Tensor& values) { ranks->all_reduce_now(values, ReduceOp::max); };
    shard.all_reduce_sum = [ranks](const Tensor& values) { ranks->all_reduce_now(values, ReduceOp::sum); };
    options.shard = &shard;
    rows = gather_rows(tape, state.tensor, x);
  }
  const auto cross_entropy = linear_cross_entropy(tape, rows, *head_, state.batch.labels, options);
  // Every tensor rank has the loss of all rows: the first one reports it.
  if (state.tensor.comm->rank() == 0) add_total(cross_entropy.sums.narrow(0, 1), sums.loss);
  return cross_entropy.loss;
}

Var LanguageModel::loss(Tape& tape, Mesh& mesh, const ModelBatch& batch, const ModelPass& pass, const ModelSums& sums) {
  const TensorGroup tensor{&mesh.tp(), sharding_.sequence_parallel && mesh.tp().size() > 1,
                           static_cast<int64_t>(batch.inputs.size())};
  auto state = std::make_shared<PassState>(
      PassState{&mesh, batch, pass, tensor, {}, batch.rows->positions.to(current_device())});
  if (spec_.position == PositionKind::rope) {
    state->rope = rope_table(batch.rows->relative.to(current_device()), spec_.rope_theta, spec_.head_width);
  }
  Stream stream{Var(), embed(tape, *state)};
  std::vector<LossTerm> terms(1);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Var entropy;
    const auto unit = static_cast<int64_t>(i) + 1;
    if (pass.shards != nullptr) pass.shards->enter(tape, unit);
    stream = spec_.recompute_layers && tape.recording() ? recomputed_block(tape, i, stream, state, &entropy)
                                                        : block(tape, i, stream, *state, &entropy);
    if (pass.shards != nullptr) pass.shards->leave(tape, unit);
    if (!entropy.defined()) continue;
    add_sum(entropy.value(), 1.0, sums.entropy);
    terms.push_back({entropy, static_cast<float>(spec_.entropy_weight * pass.entropy_scale)});
  }
  const auto last_keys = state->keys(layers_.size() - 1, Site::mlp_residual);
  const DropoutSite drop_last = state->dropout(spec_.dropout, last_keys);
  const auto end = norm_residual(tape, stream.branch, stream.residual, *final_norm_, final_norm_bias_, spec_.norm,
                                 spec_.norm_eps, &drop_last);
  terms[0] = {head_loss(tape, end.normed, *state, sums), 1.0F};
  return weighted_sum(tape, terms);
}

SequenceBatch sequence_batch(const MicroBatch& micro, const SequenceLayout& layout) {
  SequenceBatch out;
  out.batch = micro.inputs.dim(0);
  out.layout = layout;
  out.documents = micro.documents;
  for (const int64_t id : micro.sample_ids) out.samples.push_back(static_cast<uint64_t>(id));
  return out;
}

Var LanguageModel::micro_batch_loss(Tape& tape, Mesh& mesh, const SequenceLayout& layout, const MicroBatch& batch,
                                    const ModelPass& pass, const ModelSums& sums) {
  struct Described {
    SequenceBatch sequence;
    SequenceRows rows;
  };
  auto described = std::make_shared<Described>();
  described->sequence = sequence_batch(batch, layout);
  described->rows = described->sequence.rows(mesh.context_index());
  tape.at_backward([described] {});  // operations refer to it until the last of backward
  return loss(tape, mesh,
              {&described->sequence, &described->rows, batch.inputs.span<int32_t>(), batch.labels.span<int32_t>()},
              pass, sums);
}

int64_t LanguageModel::entropy_rows(const SequenceLayout& layout) const {
  return spec_.layers * spec_.heads * layout.tokens();
}

}  // namespace farsight
