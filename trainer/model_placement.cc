// SPDX-License-Identifier: Apache-2.0
#include "trainer/model_placement.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>
#include <utility>

#include "kernels/error.h"
#include "parallel/head_partition.h"

namespace farsight {
namespace {

// Batch and tokens are cut over data and context in every layout.
std::multimap<Axis, Cut> data_cuts() {
  return {{Axis::dp, Cut::batch}, {Axis::ring, Cut::token}, {Axis::uly, Cut::token}};
}

Placement placement_of(std::multimap<Axis, Cut> tensor_cuts, std::span<const Cut> contracted) {
  auto cuts = data_cuts();
  cuts.merge(tensor_cuts);
  Placement placement;
  placement.partial = partial_axes(cuts, contracted);
  return placement;
}

constexpr Cut kProducts[] = {Cut::batch, Cut::token};
constexpr Cut kPerHead[] = {Cut::batch, Cut::token, Cut::head};

}  // namespace

int64_t key_replicas(int64_t kv_heads, int64_t tensor) { return std::max<int64_t>(1, tensor / kv_heads); }

TensorHeads tensor_heads(int64_t heads, int64_t kv_heads, int64_t tensor) {
  if (tensor > heads) {
    fail(ErrorKind::config,
         "parallel.tensor = {} is more than model.heads = {}: a rank would have no head; use at most {} tensor ranks "
         "and "
         "parallel.ring or parallel.data for the others",
         tensor, heads, heads);
  }
  if (tensor > kv_heads && tensor % kv_heads != 0) {
    fail(ErrorKind::config,
         "parallel.tensor = {} is neither at most model.kv_heads = {} nor a multiple of it; a key head can be on "
         "several "
         "ranks, but not a part of one",
         tensor, kv_heads);
  }
  const int64_t replicas = key_replicas(kv_heads, tensor);
  TensorHeads result;
  const auto deal = [&](int64_t query, int64_t key, int64_t ranks) {
    for (const HeadShare& share : partition_heads(query, key, ranks)) {
      result.query.push_back(share.heads);
      result.key.push_back(static_cast<int64_t>(share.key_heads.size()));
    }
  };
  if (replicas == 1) deal(heads, kv_heads, tensor);
  for (int64_t k = 0; k < kv_heads && replicas > 1; ++k) deal(heads / kv_heads, 1, replicas);
  return result;
}

ModelPlacement::ModelPlacement(int64_t heads, int64_t kv_heads, const ModelSharding& sharding)
    : sharding_(sharding),
      heads_(tensor_heads(heads, kv_heads, sharding.mesh.extent(Axis::tp))),
      tensor_index_(static_cast<size_t>(sharding.mesh.index(sharding.rank, Axis::tp))) {}

std::vector<int64_t> ModelPlacement::times(const std::vector<int64_t>& heads, int64_t width) const {
  std::vector<int64_t> sizes;
  for (const int64_t h : heads) sizes.push_back(h * width);
  return sizes;
}

Placement ModelPlacement::rows() const {
  Placement p = placement_of({{Axis::tp, Cut::feature}}, kProducts);
  p.shard[Axis::tp] = {0, {}};
  return p;
}

Placement ModelPlacement::columns() const {
  Placement p = rows();
  p.shard[Axis::tp].dim = 1;
  return p;
}

Placement ModelPlacement::query_rows(int64_t width) const {
  Placement p = rows();
  p.shard[Axis::tp].sizes = times(heads_.query, width);
  return p;
}

Placement ModelPlacement::query_columns(int64_t width) const {
  Placement p = query_rows(width);
  p.shard[Axis::tp].dim = 1;
  return p;
}

Placement ModelPlacement::key_rows(int64_t width) const {
  if (sharding_.mesh.extent(Axis::kvrep) == 1) {
    Placement p = rows();
    p.shard[Axis::tp].sizes = times(heads_.key, width);
    return p;
  }
  // Ranks that share a key head attend to it with different query heads.
  Placement p = placement_of({{Axis::kvshard, Cut::feature}, {Axis::kvrep, Cut::head}}, kPerHead);
  p.shard[Axis::kvshard] = {0, {}};
  return p;
}

Placement ModelPlacement::on_rows_of_activations() const {
  if (!sharding_.sequence_parallel) return placement_of({}, kProducts);
  return placement_of({{Axis::tp, Cut::token}}, kProducts);
}

Placement ModelPlacement::on_heads() const { return placement_of({{Axis::tp, Cut::head}}, kPerHead); }

int64_t ModelPlacement::first_head() const {
  const auto begin = heads_.query.begin();
  return std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(tensor_index_), int64_t{0});
}

}  // namespace farsight
