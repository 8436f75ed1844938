// SPDX-License-Identifier: Apache-2.0
// The parameters of transformer blocks: names, shapes, initial values, and where they lie.
#include <cmath>
#include <string>
#include <utility>

#include "trainer/transformer.h"

namespace farsight {

Init normal_init(double sigma) { return {Init::Kind::normal, sigma}; }
Init constant_init(double value) { return {Init::Kind::constant, value}; }

Parameter* TransformerStack::add_norm_bias(const std::string& name, const AddParameter& add) const {
  if (!spec_.bias || spec_.norm != NormKind::layer) return nullptr;
  return add(name, {spec_.width}, constant_init(0.0), place_.on_rows_of_activations());
}

void TransformerStack::add_attention(const std::string& prefix, Layer& layer, Init branch_end,
                                     const AddParameter& add) const {
  const auto& s = spec_;
  const int64_t d = s.head_width;
  const Placement queries = place_.query_rows(d);
  const Placement keys = place_.key_rows(d);
  layer.attention_norm = add(prefix + "norm.weight", {s.width}, constant_init(1.0), place_.on_rows_of_activations());
  layer.attention_norm_bias = add_norm_bias(prefix + "norm.bias", add);
  layer.qkv = {add(prefix + "q.weight", {s.heads * d, s.width}, normal_init(kInitSigma), queries),
               add(prefix + "k.weight", {s.kv_heads * d, s.width}, normal_init(kInitSigma), keys, /*adjoin=*/true),
               add(prefix + "v.weight", {s.kv_heads * d, s.width}, normal_init(kInitSigma), keys, /*adjoin=*/true)};
  if (s.bias) {
    layer.qkv_bias = {add(prefix + "q.bias", {s.heads * d}, constant_init(0.0), queries),
                      add(prefix + "k.bias", {s.kv_heads * d}, constant_init(0.0), keys, /*adjoin=*/true),
                      add(prefix + "v.bias", {s.kv_heads * d}, constant_init(0.0), keys, /*adjoin=*/true)};
  }
  if (s.qk_norm) {
    layer.q_norm = add(prefix + "q_norm.weight", {d}, constant_init(1.0), place_.on_heads());
    layer.k_norm = add(prefix + "k_norm.weight", {d}, constant_init(1.0), place_.on_heads());
  }
  if (s.attention.score == AttentionScore::additive) {
    const double sigma = 1.0 / std::sqrt(static_cast<double>(d));
    layer.score = add(prefix + "score.weight", {s.heads, d}, normal_init(sigma), place_.query_rows(1));
  }
  layer.out = add(prefix + "out.weight", {s.width, s.heads * d}, branch_end, place_.query_columns(d));
  if (s.bias) {
    layer.out_bias = add(prefix + "out.bias", {s.width}, constant_init(0.0), place_.on_rows_of_activations());
  }
}

void TransformerStack::add_mlp(const std::string& prefix, Layer& layer, Init branch_end,
                               const AddParameter& add) const {
  const auto& s = spec_;
  const bool gated = s.mlp == MlpKind::swiglu;
  const Placement rows = place_.rows();
  layer.mlp_norm = add(prefix + "norm.weight", {s.width}, constant_init(1.0), place_.on_rows_of_activations());
  layer.mlp_norm_bias = add_norm_bias(prefix + "norm.bias", add);
  const auto up = [&](const std::string& name, bool adjoin) {
    layer.up.push_back(add(prefix + name, {s.mlp_width, s.width}, normal_init(kInitSigma), rows, adjoin));
  };
  const auto bias = [&](const std::string& name, bool adjoin) {
    layer.up_bias.push_back(add(prefix + name, {s.mlp_width}, constant_init(0.0), rows, adjoin));
  };
  if (gated) up("gate.weight", /*adjoin=*/false);
  up("up.weight", gated);
  if (s.bias && gated) bias("gate.bias", /*adjoin=*/false);
  if (s.bias) bias("up.bias", gated);
  layer.down = add(prefix + "down.weight", {s.width, s.mlp_width}, branch_end, place_.columns());
  if (s.bias)
    layer.down_bias = add(prefix + "down.bias", {s.width}, constant_init(0.0), place_.on_rows_of_activations());
}

void TransformerStack::add_layer(int64_t index, const AddParameter& add) {
  const std::string prefix = "layers." + std::to_string(index) + ".";
  // Branches that add to the residual start smaller, so that its variance does not grow with depth (GPT-2).
  const Init branch_end = normal_init(kInitSigma / std::sqrt(2.0 * static_cast<double>(spec_.layers)));
  Layer layer{};
  add_attention(prefix + "attention.", layer, branch_end, add);
  add_mlp(prefix + "mlp.", layer, branch_end, add);
  layers_.push_back(std::move(layer));
}

TransformerStack::TransformerStack(const TransformerSpec& spec, const ModelSharding& sharding, const AddParameter& add,
                                   const std::function<void()>& begin_unit)
    : spec_(spec), sharding_(sharding), place_(spec.heads, spec.kv_heads, sharding) {
  for (int64_t i = 0; i < spec.layers; ++i) {
    begin_unit();
    add_layer(i, add);
  }
}

}  // namespace farsight
