// SPDX-License-Identifier: Apache-2.0
// The parameters of a language model: names, shapes, initial values, and where they lie.
#include <cmath>
#include <string>
#include <utility>

#include "trainer/model.h"

namespace farsight {
namespace {

constexpr double kInitSigma = 0.02;

Init normal(double sigma) { return {Init::Kind::normal, sigma}; }
Init constant(double value) { return {Init::Kind::constant, value}; }

}  // namespace

Parameter* LanguageModel::add(const std::string& name, Shape shape, Init init, const Placement& placement,
                              bool adjoin) {
  placements_.push_back(placement);
  return &store_.add(name, parameter_slice(shape, placement, sharding_.mesh, sharding_.rank), init, adjoin);
}

Parameter* LanguageModel::add_norm_bias(const std::string& name) {
  if (!spec_.bias || spec_.norm != NormKind::layer) return nullptr;
  return add(name, {spec_.width}, constant(0.0), place_.on_rows_of_activations());
}

void LanguageModel::add_attention(const std::string& prefix, Layer& layer, Init branch_end) {
  const auto& s = spec_;
  const int64_t d = s.head_width;
  const Placement queries = place_.query_rows(d);
  const Placement keys = place_.key_rows(d);
  layer.attention_norm = add(prefix + "norm.weight", {s.width}, constant(1.0), place_.on_rows_of_activations());
  layer.attention_norm_bias = add_norm_bias(prefix + "norm.bias");
  layer.qkv = {add(prefix + "q.weight", {s.heads * d, s.width}, normal(kInitSigma), queries),
               add(prefix + "k.weight", {s.kv_heads * d, s.width}, normal(kInitSigma), keys, /*adjoin=*/true),
               add(prefix + "v.weight", {s.kv_heads * d, s.width}, normal(kInitSigma), keys, /*adjoin=*/true)};
  if (s.bias) {
    layer.qkv_bias = {add(prefix + "q.bias", {s.heads * d}, constant(0.0), queries),
                      add(prefix + "k.bias", {s.kv_heads * d}, constant(0.0), keys, /*adjoin=*/true),
                      add(prefix + "v.bias", {s.kv_heads * d}, constant(0.0), keys, /*adjoin=*/true)};
  }
  if (s.qk_norm) {
    layer.q_norm = add(prefix + "q_norm.weight", {d}, constant(1.0), place_.on_heads());
    layer.k_norm = add(prefix + "k_norm.weight", {d}, constant(1.0), place_.on_heads());
  }
  if (s.attention.score == AttentionScore::additive) {
    const double sigma = 1.0 / std::sqrt(static_cast<double>(d));
    layer.score = add(prefix + "score.weight", {s.heads, d}, normal(sigma), place_.query_rows(1));
  }
  layer.out = add(prefix + "out.weight", {s.width, s.heads * d}, branch_end, place_.query_columns(d));
  if (s.bias) {
    layer.out_bias = add(prefix + "out.bias", {s.width}, constant(0.0), place_.on_rows_of_activations());
  }
}

void LanguageModel::add_mlp(const std::string& prefix, Layer& layer, Init branch_end) {
  const auto& s = spec_;
  const bool gated = s.mlp == MlpKind::swiglu;
  const Placement rows = place_.rows();
  layer.mlp_norm = add(prefix + "norm.weight", {s.width}, constant(1.0), place_.on_rows_of_activations());
  layer.mlp_norm_bias = add_norm_bias(prefix + "norm.bias");
  const auto up = [&](const std::string& name, bool adjoin) {
    layer.up.push_back(add(prefix + name, {s.mlp_width, s.width}, normal(kInitSigma), rows, adjoin));
  };
  const auto bias = [&](const std::string& name, bool adjoin) {
    layer.up_bias.push_back(add(prefix + name, {s.mlp_width}, constant(0.0), rows, adjoin));
  };
  if (gated) up("gate.weight", /*adjoin=*/false);
  up("up.weight", gated);
  if (s.bias && gated) bias("gate.bias", /*adjoin=*/false);
  if (s.bias) bias("up.bias", gated);
  layer.down = add(prefix + "down.weight", {s.width, s.mlp_width}, branch_end, place_.columns());
  if (s.bias) layer.down_bias = add(prefix + "down.bias", {s.width}, constant(0.0), place_.on_rows_of_activations());
}

void LanguageModel::add_layer(int64_t index) {
  const std::string prefix = "layers." + std::to_string(index) + ".";
  // Branches that add to the residual start smaller, so that its variance does not grow with depth (GPT-2).
  const Init branch_end = normal(kInitSigma / std::sqrt(2.0 * static_cast<double>(spec_.layers)));
  Layer layer{};
  store_.begin_unit();
  add_attention(prefix + "attention.", layer, branch_end);
  add_mlp(prefix + "mlp.", layer, branch_end);
  layers_.push_back(std::move(layer));
}

LanguageModel::LanguageModel(const ModelSpec& spec, const ModelSharding& sharding)
    : spec_(spec), sharding_(sharding), place_(spec.heads, spec.kv_heads, sharding) {
  embedding_ = add("embedding.weight", {spec.vocab, spec.width}, normal(kInitSigma), place_.rows());
  if (spec.position == PositionKind::learned) {
    position_ =
        add("position.weight", {spec.max_positions, spec.width}, normal(kInitSigma), place_.on_rows_of_activations());
  }
  for (int64_t i = 0; i < spec.layers; ++i) add_layer(i);
  store_.begin_unit();
  final_norm_ = add("final_norm.weight", {spec.width}, constant(1.0), place_.on_rows_of_activations());
  final_norm_bias_ = add_norm_bias("final_norm.bias");
  head_ = spec.tie_embeddings ? embedding_
                              : add("head.weight", {spec.vocab, spec.width}, normal(kInitSigma), place_.rows());
}

}  // namespace farsight
