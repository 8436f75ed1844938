// SPDX-License-Identifier: Apache-2.0
#include "trainer/model_spec.h"

#include <cmath>

#include "kernels/error.h"

namespace farsight {
namespace {

AttentionSpec attention_spec(const Config& config) {
  const auto& a = config.attention;
  AttentionSpec spec;
  spec.score = a.score == ScoreChoice::additive ? AttentionScore::additive : AttentionScore::scaled_dot;
  spec.causal = a.mask.causal;
  spec.window_left = static_cast<int32_t>(a.mask.window_left);
  spec.window_right = static_cast<int32_t>(a.mask.window_right);
  spec.documents = config.data.pack == PackChoice::documents;
  spec.dropout = a.dropout;
  spec.entropy = a.entropy_weight != 0.0;
  if (a.bias == BiasChoice::alibi) spec.alibi_slopes = alibi_slopes(config.model.heads);
  return spec;
}

PositionKind position_kind(PositionChoice choice) {
  switch (choice) {
    case PositionChoice::rope:
      return PositionKind::rope;
    case PositionChoice::learned:
      return PositionKind::learned;
    case PositionChoice::none:
      return PositionKind::none;
  }
  return PositionKind::none;
}

int64_t resolve_vocabulary(const Config& config, int64_t vocab) {
  if (config.model.vocab == 0) return vocab;
  if (config.model.vocab < vocab) {
    fail(ErrorKind::data,
         "model.vocab = {} is smaller than the {} ids of the dataset's tokeniser; set model.vocab = \"auto\" or at "
         "least {}",
         config.model.vocab, vocab, vocab);
  }
  return config.model.vocab;
}

}  // namespace

std::vector<float> alibi_slopes(int64_t heads) {
  std::vector<float> slopes;
  for (int64_t h = 1; h <= heads; ++h) {
    slopes.push_back(static_cast<float>(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(heads))));
  }
  return slopes;
}

ModelSpec model_spec(const Config& config, int64_t vocab) {
  const auto& m = config.model;
  ModelSpec spec;
  spec.vocab = resolve_vocabulary(config, vocab);
  spec.layers = m.layers;
  spec.width = m.width;
  spec.heads = m.heads;
  spec.kv_heads = m.kv_heads;
  spec.head_width = m.head_width;
  spec.mlp_width = m.mlp_width;
  spec.max_positions = config.data.sequence;
  spec.mlp = m.mlp == MlpChoice::swiglu ? MlpKind::swiglu : MlpKind::gelu;
  spec.norm = m.norm == NormChoice::rms ? NormKind::rms : NormKind::layer;
  spec.position = position_kind(config.attention.position);
  spec.tie_embeddings = m.tie_embeddings;
  spec.bias = m.bias;
  spec.qk_norm = config.attention.qk_norm == HeadNormChoice::rms;
  spec.norm_eps = static_cast<float>(m.norm_eps);
  spec.rope_theta = config.attention.rope_theta;
  spec.dropout = m.dropout;
  spec.label_smoothing = config.train.label_smoothing;
  spec.mlp_chunk = config.train.mlp_chunk;
  spec.entropy_weight = config.attention.entropy_weight;
  spec.recompute_layers = config.train.recompute != RecomputeChoice::none;
  spec.keep_attention = config.train.recompute == RecomputeChoice::attn;
  spec.loss_chunk = config.train.loss_chunk;
  spec.attention = attention_spec(config);
  spec.attention.backend = config.attention.backend == BackendChoice::own     ? AttentionBackend::own
                           : config.attention.backend == BackendChoice::cudnn ? AttentionBackend::library
                                                                              : AttentionBackend::automatic;
  return spec;
}

}  // namespace farsight
