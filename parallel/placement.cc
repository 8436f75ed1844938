// SPDX-License-Identifier: Apache-2.0
#include "parallel/placement.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/error.h"

namespace farsight {

AxisSet partial_axes(const std::multimap<Axis, Cut>& cuts, std::span<const Cut> contracted) {
  AxisSet partial;
  for (const auto& [axis, cut] : cuts) {
    if (std::find(contracted.begin(), contracted.end(), cut) != contracted.end()) partial = partial | AxisSet{axis};
  }
  return partial;
}

Placement replicated_weight() {
  Placement placement;
  const std::multimap<Axis, Cut> cuts{{Axis::dp, Cut::batch}, {Axis::ring, Cut::token}, {Axis::uly, Cut::token}};
  const Cut contracted[] = {Cut::batch, Cut::token};
  placement.partial = partial_axes(cuts, contracted);
  return placement;
}

namespace {

// Begin and size of piece `index` of a dimension; the first `extent % pieces` balanced pieces are one larger.
std::pair<int64_t, int64_t> piece_of(const Shard& shard, int64_t extent, int64_t pieces, int64_t index) {
  if (shard.sizes.empty()) {
    const int64_t base = extent / pieces;
    const int64_t larger = extent % pieces;
    return {base * index + std::min(index, larger), base + (index < larger ? 1 : 0)};
  }
  int64_t begin = 0;
  int64_t total = 0;
  for (size_t i = 0; i < shard.sizes.size(); ++i) {
    if (static_cast<int64_t>(i) < index) begin += shard.sizes[i];
    total += shard.sizes[i];
  }
  if (static_cast<int64_t>(shard.sizes.size()) != pieces || total != extent) {
    fail(ErrorKind::internal, "placement: {} sizes that sum to {} for dimension {} of {} over {} ranks",
         shard.sizes.size(), total, shard.dim, extent, pieces);
  }
  return {begin, shard.sizes[static_cast<size_t>(index)]};
}

// The grid in which the placement is named: tensor ranks as (kvshard, kvrep) if it cuts one of these.
std::array<Axis, 6> grid_of(const Placement& placement) {
  const bool keys = placement.shard.contains(Axis::kvshard) || placement.shard.contains(Axis::kvrep) ||
                    placement.partial.contains(Axis::kvrep);
  return {Axis::pp, Axis::dp, Axis::ring, Axis::uly, keys ? Axis::kvshard : Axis::tp, keys ? Axis::kvrep : Axis::tp};
}

}  // namespace

Slice slice_of(const Shape& global, const Placement& placement, const MeshShape& mesh, int64_t rank) {
  Slice slice{Shape(global.size(), 0), global};
  for (const auto& [axis, shard] : placement.shard) {
    if (shard.dim < 0 || static_cast<size_t>(shard.dim) >= global.size()) {
      fail(ErrorKind::internal, "placement: axis {} cuts dimension {} of shape {}", to_string(axis), shard.dim,
           to_string(global));
    }
    const auto d = static_cast<size_t>(shard.dim);
    const auto [begin, size] = piece_of(shard, slice.shape[d], mesh.extent(axis), mesh.index(rank, axis));
    slice.offset[d] += begin;
    slice.shape[d] = size;
  }
  return slice;
}

ParameterSlice parameter_slice(const Shape& global, const Placement& placement, const MeshShape& mesh, int64_t rank) {
  Slice slice = slice_of(global, placement, mesh, rank);
  return {global, std::move(slice.offset), std::move(slice.shape)};
}

AxisSet reduction_axes(const Placement& placement, const MeshShape& mesh) {
  AxisSet axes;
  if (placement.frozen) return axes;
  for (const Axis a : grid_of(placement)) {
    if (placement.partial.contains(a) && mesh.extent(a) > 1) axes = axes | AxisSet{a};
  }
  return axes;
}

AxisSet replicate_axes(const Placement& placement, const MeshShape& mesh) {
  AxisSet axes;
  for (const Axis a : grid_of(placement)) {
    if (!placement.shard.contains(a) && mesh.extent(a) > 1) axes = axes | AxisSet{a};
  }
  return axes;
}

double norm_weight(const Placement& placement, const MeshShape& mesh) {
  return 1.0 / static_cast<double>(mesh.extent(replicate_axes(placement, mesh)));
}

bool writes_checkpoint(const Placement& placement, const MeshShape& mesh, int64_t rank) {
  const auto grid = grid_of(placement);
  return std::all_of(grid.begin(), grid.end(),
                     [&](Axis a) { return placement.shard.contains(a) || mesh.index(rank, a) == 0; });
}

}  // namespace farsight
