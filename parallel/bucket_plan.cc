// SPDX-License-Identifier: Apache-2.0
#include "parallel/bucket_plan.h"

#include <algorithm>

#include "kernels/error.h"

namespace farsight {
namespace {

// Bytes of the average slice over the ranks that share the parameter: the same number everywhere.
int64_t nominal_bytes(const Parameter& p, const Placement& placement, const MeshShape& mesh) {
  const int64_t all = count_of(p.slice.global);
  int64_t ranks = 1;
  for (const auto& [axis, shard] : placement.shard) ranks *= mesh.extent(axis);
  return std::max<int64_t>(1, all / ranks) * static_cast<int64_t>(sizeof(float));
}

}  // namespace

std::vector<GradientBucket> plan_buckets(ParameterStore& store, std::span<const Placement> placements,
                                         const MeshShape& mesh, int64_t bytes, bool by_unit) {
  auto& parameters = store.parameters();
  if (placements.size() != parameters.size()) {
    fail(ErrorKind::internal, "buckets: {} placements for {} parameters", placements.size(), parameters.size());
  }
  std::vector<GradientBucket> buckets;
  int64_t end = store.slab_elements();
  int64_t filled = 0;
  for (size_t i = parameters.size(); i-- > 0;) {
    Parameter& p = parameters[i];
    const int64_t size = nominal_bytes(p, placements[i], mesh);
    const bool full = buckets.empty() || filled + size > bytes;
    if (full || (by_unit && buckets.back().unit != p.unit)) {
      buckets.push_back({{p.offset, end}, p.unit, {}, {}});
      filled = 0;
    }
    GradientBucket& bucket = buckets.back();
    bucket.range.begin = end = p.offset;
    bucket.parameters.push_back(&p);
    filled += size;
    const AxisSet inside = reduction_axes(placements[i], mesh).without(kDataContextAxes);
    if (!inside.empty()) bucket.inner[inside].push_back({p.offset, p.offset + p.numel()});
  }
  return buckets;
}

SlabRange shard_of(const SlabRange& range, int64_t index, int64_t ranks) {
  constexpr int64_t kAlign = 16;
  const int64_t piece = ((range.count() + ranks - 1) / ranks + kAlign - 1) / kAlign * kAlign;
  return {range.begin + std::min(range.count(), piece * index),
          range.begin + std::min(range.count(), piece * (index + 1))};
}

std::vector<int64_t> shard_counts(const SlabRange& range, int64_t ranks, int64_t unit) {
  std::vector<int64_t> counts;
  for (int64_t r = 0; r < ranks; ++r) counts.push_back(shard_of(range, r, ranks).count() * unit);
  return counts;
}

}  // namespace farsight
