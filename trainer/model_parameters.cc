// SPDX-License-Identifier: Apache-2.0
// The parameters of a language model around its blocks.
#include <string>

#include "trainer/model.h"

namespace farsight {

Parameter* LanguageModel::add(const std::string& name, const Shape& shape, Init init, const Placement& placement,
                              bool adjoin) {
  placements_.push_back(placement);
  return &store_.add(name, parameter_slice(shape, placement, sharding_.mesh, sharding_.rank), init, adjoin);
}

LanguageModel::LanguageModel(const ModelSpec& spec, const ModelSharding& sharding) : spec_(spec), sharding_(sharding) {
  const ModelPlacement place(spec.heads, spec.kv_heads, sharding);
  const AddParameter register_one{[this](const std::string& name, const Shape& shape, Init init,
                                         const Placement& placement,
                                         bool adjoin) { return add(name, shape, init, placement, adjoin); }};
  embedding_ = add("embedding.weight", {spec.vocab, spec.width}, normal_init(kInitSigma), place.rows());
  if (spec.position == PositionKind::learned) {
    position_ = add("position.weight", {spec.max_positions, spec.width}, normal_init(kInitSigma),
                    place.on_rows_of_activations());
  }
  stack_ = std::make_unique<TransformerStack>(spec, sharding, register_one, [this] { store_.begin_unit(); });
  store_.begin_unit();
  final_norm_ = add("final_norm.weight", {spec.width}, constant_init(1.0), place.on_rows_of_activations());
  if (spec.bias && spec.norm == NormKind::layer) {
    final_norm_bias_ = add("final_norm.bias", {spec.width}, constant_init(0.0), place.on_rows_of_activations());
  }
  head_ = spec.tie_embeddings ? embedding_
                              : add("head.weight", {spec.vocab, spec.width}, normal_init(kInitSigma), place.rows());
}

}  // namespace farsight
