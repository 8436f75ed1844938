// SPDX-License-Identifier: Apache-2.0
#include "trainer/transformer.h"

#include <tuple>
#include <utility>

#include "kernels/gelu.h"
#include "kernels/gelu_mlp.h"
#include "kernels/linear.h"
#include "kernels/swiglu.h"
#include "kernels/totals.h"
#include "parallel/tiled_rows.h"

namespace farsight {

TransformerPass::TransformerPass(const TransformerSpec& spec, const ModelSharding& sharding, Mesh& on,
                                 const SequenceBatch& batch, const SequenceRows& own, int64_t count,
                                 const ModelPass& now)
    : mesh(&on),
      sequence(&batch),
      rows(&own),
      pass(now),
      tensor{&on.tp(), sharding.sequence_parallel && on.tp().size() > 1, count},
      positions(own.positions.to(current_device())) {
  if (spec.position == PositionKind::rope) {
    rope = rope_table(own.relative.to(current_device()), spec.rope_theta, spec.head_width);
  }
}

std::vector<uint64_t> TransformerPass::keys(size_t layer, Site site) const {
  return sequence->keys(pass.seed, pass.step, layer, site);
}

DropoutSite TransformerPass::dropout(double p, const std::vector<uint64_t>& site_keys) const {
  DropoutSite site{pass.training ? p : 0.0, site_keys, positions, positions.dim(1)};
  site.first_row = first_row();
  site.row_count = row_count();
  return site;
}

Var TransformerPass::column(Tape& tape, const Var& x, std::span<Parameter* const> weights,
                            std::span<Parameter* const> biases) const {
  return sharded() ? column_linear(tape, tensor, x, weights, biases) : linear_group(tape, x, weights, biases);
}

Var TransformerPass::row(Tape& tape, const Var& x, Parameter& weight, Parameter* bias) const {
  return sharded() ? row_linear(tape, tensor, x, weight, bias) : linear(tape, x, weight, bias);
}

Var TransformerStack::attention_branch(Tape& tape, size_t index, const Var& x, const TransformerPass& state,
                                       Var* entropy, AttentionSaved* saved) const {
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
      context_attention(tape, groups, scheme, attention, parts[0], parts[1], parts[2], *state.sequence, options);
  for (const Var& part : parts) part.drop_value();  // with dealt heads nothing reads them again
  if (attention.entropy) *entropy = result.entropy;
  return state.row(tape, result.out, *layer.out, layer.out_bias);
}

namespace {

Var activate(Tape& tape, MlpKind kind, const Var& up) {
  return kind == MlpKind::swiglu ? swiglu(tape, up) : gelu(tape, up);
}

// The MLP without messages: all of it, or a tensor rank's part of the sum.
Var own_mlp(Tape& tape, MlpKind kind, const Var& x, const TransformerStack::Layer& layer, Parameter* down_bias) {
  if (kind == MlpKind::gelu) {
    Parameter* const up_bias = layer.up_bias.empty() ? nullptr : layer.up_bias.front();
    return gelu_mlp(tape, x, {*layer.up.front(), up_bias, *layer.down, down_bias});
  }
  const Var hidden = activate(tape, kind, linear_group(tape, x, layer.up, layer.up_bias));
  return linear(tape, hidden, *layer.down, down_bias);
}

}  // namespace

Var TransformerStack::mlp_branch(Tape& tape, const Layer& layer, const Var& x, const TransformerPass& state) const {
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

TransformerStack::Stream TransformerStack::block(Tape& tape, size_t index, const Stream& in,
                                                 const TransformerPass& state, Var* entropy,
                                                 AttentionSaved* saved) const {
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

TransformerStack::Stream TransformerStack::recomputed_block(Tape& tape, size_t index, const Stream& in,
                                                            const std::shared_ptr<const TransformerPass>& state,
                                                            Var* entropy) const {
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

Var TransformerStack::run(Tape& tape, const Var& embedded, const std::shared_ptr<const TransformerPass>& state,
                          Parameter& final_norm, Parameter* final_norm_bias, const ModelSums& sums,
                          std::vector<LossTerm>& terms) const {
  const ModelPass& pass = state->pass;
  Stream stream{Var(), embedded};
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
  return norm_residual(tape, stream.branch, stream.residual, final_norm, final_norm_bias, spec_.norm, spec_.norm_eps,
                       &drop_last)
      .normed;
}

}  // namespace farsight
