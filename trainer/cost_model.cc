// SPDX-License-Identifier: Apache-2.0
// Sizes of a model and its arithmetic.
#include "trainer/cost_model.h"

#include <algorithm>

#include "parallel/bucket_plan.h"
#include "trainer/model.h"
#include "trainer/model_placement.h"
#include "trainer/model_spec.h"
#include "trainer/run_mesh.h"

namespace farsight {
namespace {

// Sum of min(p, window) + 1 over the positions [begin, end): keys that their queries see to the left.
double left_pairs(double begin, double end, double window) {
  const double edge = std::clamp(window, begin, end);
  const double growing = (edge * (edge + 1.0) - begin * (begin + 1.0)) / 2.0;
  return growing + (end - edge) * (window + 1.0);
}

double pairs_of(const MaskConfig& mask, const SequenceRange& range, int64_t tokens) {
  const auto begin = static_cast<double>(range.begin), end = static_cast<double>(range.end);
  const auto t = static_cast<double>(tokens);
  const double left = left_pairs(begin, end, static_cast<double>(mask.window_left));
  if (mask.causal) return left;
  // The same from the other end; the diagonal is in both.
  return left + left_pairs(t - end, t - begin, static_cast<double>(mask.window_right)) - (end - begin);
}

MeshShape mesh_shape(const RunLayout& l) {
  return {l.pipeline, l.data, l.ring, l.ulysses, l.tensor, 1, l.zero_group, l.key_replicas};
}

}  // namespace

ModelSize model_size(const Config& config, int64_t vocab) {
  const ModelConfig& m = config.model;
  const int64_t q = m.heads * m.head_width, k = m.kv_heads * m.head_width;
  const int64_t gates = m.mlp == MlpChoice::swiglu ? 2 : 1;
  const int64_t attention_products = m.width * (q + 2 * k) + q * m.width;
  const int64_t mlp_products = (gates + 1) * m.width * m.mlp_width;
  const int64_t attention_bias = m.bias ? q + 2 * k + m.width : 0;
  const int64_t mlp_bias = m.bias ? gates * m.mlp_width + m.width : 0;
  const bool norm_bias = m.bias && m.norm == NormChoice::layer;
  const int64_t score = config.attention.score == ScoreChoice::additive ? q : 0;
  const int64_t head_norms = config.attention.qk_norm == HeadNormChoice::rms ? 2 * m.head_width : 0;
  ModelSize size;
  size.embedding = vocab * m.width;
  size.positions = config.attention.position == PositionChoice::learned ? config.data.sequence * m.width : 0;
  size.attention = m.layers * (attention_products + attention_bias + score);
  size.mlp = m.layers * (mlp_products + mlp_bias);
  size.norms = (2 * m.layers + 1) * m.width * (norm_bias ? 2 : 1) + m.layers * head_norms;
  size.head = m.tie_embeddings ? 0 : vocab * m.width;
  size.matmul = m.layers * (attention_products + mlp_products) + vocab * m.width;
  return size;
}

double mean_visible_keys(const Config& config) {
  const int64_t t = config.data.sequence;
  return pairs_of(config.attention.mask, {0, t}, t) / static_cast<double>(t);
}

double flops_per_token(const Config& config, int64_t vocab) {
  const auto matmul = static_cast<double>(model_size(config, vocab).matmul);
  const auto attention = static_cast<double>(config.model.layers * config.model.heads * config.model.head_width);
  return 6.0 * matmul + 12.0 * attention * mean_visible_keys(config);
}

PairCount visible_pairs(const Config& config, const RunLayout& layout, bool all_owners) {
  const int64_t t = config.data.sequence;
  const SequenceLayout ranks = sequence_layout(config, layout);
  const SequenceLayout order = all_owners ? ranks : ranks.member_layout();
  PairCount count;
  count.mean = mean_visible_keys(config) * static_cast<double>(t) / static_cast<double>(order.owners());
  // Striped owners differ by a stripe; counting them all would pass over every position.
  const bool even = order.order() == SequenceOrder::striped && t > int64_t{1} << 16;
  if (even || order.owners() == 1) {
    count.most = count.mean;
    return count;
  }
  for (int64_t owner = 0; owner < order.owners(); ++owner) {
    double pairs = 0.0;
    for (const SequenceRange& range : order.ranges(owner)) pairs += pairs_of(config.attention.mask, range, t);
    count.most = std::max(count.most, pairs);
  }
  return count;
}

RankParameters rank_parameters(const Config& config, const RunLayout& layout, int64_t vocab, int64_t rank) {
  const MeshShape mesh = mesh_shape(layout);
  Config known = config;
  known.model.vocab = std::max<int64_t>({1, vocab, layout.tensor});
  // Registered, never allocated.
  LanguageModel model(model_spec(known, 0), model_sharding(config, mesh, rank));
  ParameterStore& store = model.parameters();
  RankParameters out;
  for (const ParameterUnit& unit : store.units()) out.units.push_back(unit.end - unit.begin);
  out.slab = store.units().back().end;
  const auto buckets =
      plan_buckets(store, model.placements(), mesh, config.parallel.bucket_bytes, config.parallel.zero >= 2);
  out.buckets = static_cast<int64_t>(buckets.size());
  if (config.parallel.zero == 0) {
    out.shard = out.slab;
    return out;
  }
  for (const GradientBucket& bucket : buckets) {
    out.shard += shard_of(bucket.range, mesh.index(rank, Axis::zero), mesh.extent(Axis::zero)).count();
  }
  return out;
}

RankParameters largest_rank_parameters(const Config& config, const RunLayout& layout, int64_t vocab) {
  // Shards of the first rank of a ZeRO group are the largest. Tensor ranks differ by their heads, of which the first
  // need not have most, and by rows, of which it has.
  RankParameters first = rank_parameters(config, layout, vocab, 0);
  const auto heads = tensor_heads(config.model.heads, config.model.kv_heads, layout.tensor).query;
  const auto most = std::max_element(heads.begin(), heads.end()) - heads.begin();
  if (most == 0) return first;
  RankParameters other = rank_parameters(config, layout, vocab, most);
  return other.slab > first.slab ? other : first;
}

}  // namespace farsight
