// SPDX-License-Identifier: Apache-2.0
#include "trainer/model.h"

#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/error.h"
#include "kernels/gelu.h"
#include "kernels/linear.h"
#include "kernels/random.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "parallel/ring_attention.h"
#include "trainer/loss.h"

namespace farsight {

// What every layer of one pass shares; kept alive by the segments that backward replays.
struct LanguageModel::PassState {
  Communicator* ring;
  ModelBatch batch;
  ModelPass pass;
  RopeTable rope;

  std::vector<uint64_t> keys(size_t layer, Site site) const {
    return batch.sequence->keys(pass.seed, pass.step, layer, site);
  }
  DropoutSite dropout(double p, const std::vector<uint64_t>& site_keys) const {
    const Tensor& positions = batch.rows->positions;
    return {pass.training ? p : 0.0, site_keys, positions.data<int32_t>(), positions.dim(1)};
  }
};

namespace {

constexpr double kInitSigma = 0.02;

Init normal(double sigma) { return {Init::Kind::normal, sigma}; }
Init constant(double value) { return {Init::Kind::constant, value}; }

}  // namespace

Parameter* LanguageModel::add(const std::string& name, Shape shape, Init init, bool adjoin) {
  return &store_.add(name, std::move(shape), init, adjoin);
}

void LanguageModel::add_layer(int64_t index) {
  const std::string prefix = "layers." + std::to_string(index) + ".";
  const auto& s = spec_;
  const int64_t q_width = s.heads * s.head_width;
  const int64_t kv_width = s.kv_heads * s.head_width;
  // Branches that add to the residual start smaller, so that its variance does not grow with depth (GPT-2).
  const Init branch_end = normal(kInitSigma / std::sqrt(2.0 * static_cast<double>(s.layers)));
  auto bias = [&](const std::string& name, int64_t n, bool adjoin = false) {
    return s.bias ? add(prefix + name, {n}, constant(0.0), adjoin) : nullptr;
  };
  auto norm_bias = [&](const std::string& name) {
    return s.bias && s.norm == NormKind::layer ? add(prefix + name, {s.width}, constant(0.0)) : nullptr;
  };
  Layer layer{};
  layer.attention_norm = add(prefix + "attention.norm.weight", {s.width}, constant(1.0));
  layer.attention_norm_bias = norm_bias("attention.norm.bias");
  layer.qkv = {add(prefix + "attention.q.weight", {q_width, s.width}, normal(kInitSigma)),
               add(prefix + "attention.k.weight", {kv_width, s.width}, normal(kInitSigma), /*adjoin=*/true),
               add(prefix + "attention.v.weight", {kv_width, s.width}, normal(kInitSigma), /*adjoin=*/true)};
  if (s.bias) {
    layer.qkv_bias = {bias("attention.q.bias", q_width), bias("attention.k.bias", kv_width, /*adjoin=*/true),
                      bias("attention.v.bias", kv_width, /*adjoin=*/true)};
  }
  if (s.attention.score == AttentionScore::additive) {
    const double sigma = 1.0 / std::sqrt(static_cast<double>(s.head_width));
    layer.score = add(prefix + "attention.score.weight", {s.heads, s.head_width}, normal(sigma));
  }
  layer.out = add(prefix + "attention.out.weight", {s.width, q_width}, branch_end);
  layer.out_bias = bias("attention.out.bias", s.width);
  layer.mlp_norm = add(prefix + "mlp.norm.weight", {s.width}, constant(1.0));
  layer.mlp_norm_bias = norm_bias("mlp.norm.bias");
  const bool gated = s.mlp == MlpKind::swiglu;
  if (gated) layer.up.push_back(add(prefix + "mlp.gate.weight", {s.mlp_width, s.width}, normal(kInitSigma)));
  layer.up.push_back(add(prefix + "mlp.up.weight", {s.mlp_width, s.width}, normal(kInitSigma), /*adjoin=*/gated));
  if (s.bias) {
    if (gated) layer.up_bias.push_back(bias("mlp.gate.bias", s.mlp_width));
    layer.up_bias.push_back(bias("mlp.up.bias", s.mlp_width, /*adjoin=*/gated));
  }
  layer.down = add(prefix + "mlp.down.weight", {s.width, s.mlp_width}, branch_end);
  layer.down_bias = bias("mlp.down.bias", s.width);
  layers_.push_back(std::move(layer));
}

LanguageModel::LanguageModel(const ModelSpec& spec) : spec_(spec) {
  embedding_ = add("embedding.weight", {spec.vocab, spec.width}, normal(kInitSigma));
  if (spec.position == PositionKind::learned) {
    position_ = add("position.weight", {spec.max_positions, spec.width}, normal(kInitSigma));
  }
  for (int64_t i = 0; i < spec.layers; ++i) add_layer(i);
  final_norm_ = add("final_norm.weight", {spec.width}, constant(1.0));
  if (spec.bias && spec.norm == NormKind::layer) final_norm_bias_ = add("final_norm.bias", {spec.width}, constant(0.0));
  head_ = spec.tie_embeddings ? embedding_ : add("head.weight", {spec.vocab, spec.width}, normal(kInitSigma));
  store_.allocate();
}

Var LanguageModel::attention_branch(Tape& tape, size_t index, const Var& x, const PassState& state, Var* entropy) {
  const Layer& layer = layers_[index];
  const int64_t q_width = spec_.heads * spec_.head_width;
  const int64_t kv_width = spec_.kv_heads * spec_.head_width;
  const Var qkv = linear_group(tape, x, layer.qkv, layer.qkv_bias);
  auto parts = tape.split_last(qkv, {q_width, kv_width, kv_width});
  if (spec_.position == PositionKind::rope) std::tie(parts[0], parts[1]) = rope(tape, parts[0], parts[1], state.rope);
  RingOptions options;
  options.heads = spec_.heads;
  options.kv_heads = spec_.kv_heads;
  options.seed = state.pass.seed;
  options.step = state.pass.step;
  options.layer = index;
  options.score_vectors = layer.score;
  AttentionSpec attention = spec_.attention;
  if (!state.pass.training) attention.dropout = 0.0;
  auto result =
      ring_attention(tape, *state.ring, attention, parts[0], parts[1], parts[2], *state.batch.sequence, options);
  if (attention.entropy) *entropy = result.entropy;
  return linear(tape, result.out, *layer.out, layer.out_bias);
}

LanguageModel::Stream LanguageModel::block(Tape& tape, size_t index, const Stream& in, const PassState& state,
                                           Var* entropy) {
  const Layer& layer = layers_[index];
  const auto before = state.keys(index == 0 ? 0 : index - 1, Site::mlp_residual);
  const auto after = state.keys(index, Site::attention_residual);
  const DropoutSite drop_mlp = state.dropout(spec_.dropout, before);
  const DropoutSite drop_attention = state.dropout(spec_.dropout, after);
  auto first = norm_residual(tape, in.branch, in.residual, *layer.attention_norm, layer.attention_norm_bias, spec_.norm,
                             spec_.norm_eps, &drop_mlp);
  if (in.branch.defined()) in.branch.drop_value();  // it lives on in the residual
  const Var attended = attention_branch(tape, index, first.normed, state, entropy);
  auto second = norm_residual(tape, attended, first.residual, *layer.mlp_norm, layer.mlp_norm_bias, spec_.norm,
                              spec_.norm_eps, &drop_attention);
  attended.drop_value();
  const Var up = linear_group(tape, second.normed, layer.up, layer.up_bias);
  const Var hidden = spec_.mlp == MlpKind::swiglu ? swiglu(tape, up) : gelu(tape, up);
  return {linear(tape, hidden, *layer.down, layer.down_bias), second.residual};
}

LanguageModel::Stream LanguageModel::recomputed_block(Tape& tape, size_t index, const Stream& in,
                                                      const std::shared_ptr<const PassState>& state, Var* entropy) {
  std::vector<Var> inputs{in.residual};
  if (in.branch.defined()) inputs.push_back(in.branch);
  auto outs = tape.recompute(inputs, [this, index, state](Tape& segment, const std::vector<Var>& given) {
    Var rows;
    const Stream result = block(segment, index, {given.size() > 1 ? given[1] : Var(), given[0]}, *state, &rows);
    std::vector<Var> values{result.branch, result.residual};
    if (rows.defined()) values.push_back(rows);
    return values;
  });
  if (outs.size() > 2) *entropy = outs[2];
  return {outs[0], outs[1]};
}

ModelLoss LanguageModel::loss(Tape& tape, Communicator& ring, const ModelBatch& batch, const ModelPass& pass) {
  auto state = std::make_shared<PassState>(PassState{&ring, batch, pass, {}});
  if (spec_.position == PositionKind::rope) {
    state->rope = rope_table(batch.rows->relative.span<int32_t>(), spec_.rope_theta, spec_.head_width);
  }
  const auto embedding_keys = state->keys(0, Site::embedding);
  const DropoutSite drop_embedding = state->dropout(spec_.dropout, embedding_keys);
  Stream stream{Var(), farsight::embedding(tape, batch.inputs, *embedding_, position_,
                                           batch.rows->relative.span<int32_t>(), &drop_embedding)};
  std::vector<LossTerm> terms(1);
  ModelLoss result;
  for (size_t i = 0; i < layers_.size(); ++i) {
    Var entropy;
    stream = spec_.recompute_layers && tape.recording() ? recomputed_block(tape, i, stream, state, &entropy)
                                                        : block(tape, i, stream, *state, &entropy);
    if (!entropy.defined()) continue;
    result.entropy_sum += sum_of(entropy.value());
    terms.push_back({entropy, static_cast<float>(spec_.entropy_weight * pass.entropy_scale)});
  }
  const auto last_keys = state->keys(layers_.size() - 1, Site::mlp_residual);
  const DropoutSite drop_last = state->dropout(spec_.dropout, last_keys);
  const auto end = norm_residual(tape, stream.branch, stream.residual, *final_norm_, final_norm_bias_, spec_.norm,
                                 spec_.norm_eps, &drop_last);
  CrossEntropyOptions options;
  options.scale = pass.loss_scale;
  options.chunk_rows = spec_.loss_chunk;
  const auto cross_entropy = linear_cross_entropy(tape, end.normed, *head_, batch.labels, options);
  result.loss_sum = cross_entropy.loss_sum;
  terms[0] = {cross_entropy.loss, 1.0F};
  result.root = weighted_sum(tape, terms);
  return result;
}

}  // namespace farsight
