// SPDX-License-Identifier: Apache-2.0
#include "trainer/rank_shape.h"

#include <algorithm>

#include "parallel/head_partition.h"
#include "trainer/model_placement.h"
#include "trainer/run_mesh.h"

namespace farsight {
namespace {

int64_t share_of(int64_t n, int64_t ranks) { return (n + ranks - 1) / ranks; }

int64_t largest(const std::vector<int64_t>& values) { return *std::max_element(values.begin(), values.end()); }

}  // namespace

RankShape::RankShape(const Config& config, const RunLayout& layout, int64_t vocab)
    : batch(layout.micro_batch),
      sequence(config.data.sequence),
      tokens(sequence_layout(config, layout).max_count()),
      rows(batch * tokens),
      own_rows(rows),
      tensor(layout.tensor),
      context(layout.context()),
      ring(layout.ring),
      ulysses(layout.ulysses),
      cut_rows(layout.tensor > 1 && config.parallel.sequence_parallel),
      layers(config.model.layers),
      width(config.model.width),
      head_width(config.model.head_width),
      gates(config.model.mlp == MlpChoice::swiglu ? 2 : 1) {
  const TensorHeads dealt = tensor_heads(config.model.heads, config.model.kv_heads, tensor);
  heads = largest(dealt.query);
  kv_heads = largest(dealt.key);
  mlp = share_of(config.model.mlp_width, tensor);
  vocabulary = share_of(vocab, tensor);
  if (cut_rows) own_rows = share_of(rows, tensor);
}

ContextShape::ContextShape(const RankShape& rank, ContextScheme context)
    : scheme(context),
      dealt(1),
      members(rank.context),
      heads(rank.heads),
      kv_heads(rank.kv_heads),
      tokens(rank.tokens) {
  if (scheme == ContextScheme::ulysses) dealt = rank.context;
  if (scheme == ContextScheme::two_d) dealt = rank.ulysses;
  members = rank.context / dealt;
  if (dealt > 1) {
    const auto shares = partition_heads(rank.heads, rank.kv_heads, dealt);
    heads = shares.front().heads;
    kv_heads = static_cast<int64_t>(shares.front().key_heads.size());
    for (const HeadShare& share : shares) {
      heads = std::max(heads, share.heads);
      kv_heads = std::max(kv_heads, static_cast<int64_t>(share.key_heads.size()));
    }
    tokens = (rank.sequence + members - 1) / members;
  }
  queries = heads * rank.head_width;
  keys = kv_heads * rank.head_width;
  rows = rank.batch * tokens;
}

std::vector<SchemeCount> context_schemes(const Config& config) {
  std::vector<SchemeCount> counts;
  for (const ContextScheme scheme : model_sharding(config, {}, 0).context) {
    const auto found =
        std::find_if(counts.begin(), counts.end(), [&](const SchemeCount& c) { return c.scheme == scheme; });
    if (found == counts.end()) {
      counts.push_back({scheme, 1});
    } else {
      ++found->layers;
    }
  }
  return counts;
}

}  // namespace farsight
