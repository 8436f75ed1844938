// SPDX-License-Identifier: Apache-2.0
#include "parallel/placement.h"

#include <algorithm>
#include <array>

#include <xxhash.h>

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

std::vector<ReplicaTensor> replica_tensors(const ParameterStore& store) {
  std::vector<ReplicaTensor> tensors;
  for (const Parameter& p : store.parameters()) tensors.push_back({p.name, std::as_bytes(p.value.span<float>())});
  return tensors;
}

namespace {

uint64_t hash_of(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

// "ranks 2, 5" whose hash is not the most frequent one; all of them if there is no majority.
std::string minority(std::span<const uint64_t> hashes) {
  std::map<uint64_t, int> votes;
  for (const uint64_t h : hashes) ++votes[h];
  const auto most =
      std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const bool majority = 2 * most->second > static_cast<int>(hashes.size());
  std::string ranks;
  for (size_t r = 0; r < hashes.size(); ++r) {
    if (majority && hashes[r] == most->first) continue;
    ranks += fmt::format("{}{} (hash {:016x})", ranks.empty() ? "" : ", ", r, hashes[r]);
  }
  return ranks;
}

// Some tensor differs: finds the first one and says who disagrees.
[[noreturn]] void report_difference(Communicator& replicas, std::span<const ReplicaTensor> tensors) {
  for (const ReplicaTensor& t : tensors) {
    const uint64_t own = hash_of(t.bytes);
    const std::vector<int64_t> counts(static_cast<size_t>(replicas.size()), static_cast<int64_t>(sizeof own));
    std::vector<uint64_t> hashes(counts.size());
    replicas.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(hashes)), counts);
    if (std::all_of(hashes.begin(), hashes.end(), [&](uint64_t h) { return h == hashes[0]; })) continue;
    fail(
        ErrorKind::diverged,
        "replicas differ: tensor '{}' on axis {}: rank {}; a memory or communication fault, or a gradient that was not "
        "summed. Nothing was saved; check the machine and resume from the last checkpoint",
        t.name, replicas.name(), minority(hashes));
  }
  fail(ErrorKind::diverged, "replicas differ on axis {}: the ranks list different tensors", replicas.name());
}

}  // namespace

void check_replicas(Communicator& replicas, std::span<const ReplicaTensor> tensors) {
  std::vector<uint64_t> hashes{tensors.size()};
  for (const ReplicaTensor& t : tensors) hashes.push_back(hash_of(t.bytes));
  const uint64_t own = hash_of(std::as_bytes(std::span(hashes)));
  // One round: the maximum of -x is minus the minimum. Half of the bits, because int64 has no -min.
  const auto folded = static_cast<int64_t>(own >> 1);
  int64_t range[] = {folded, -folded, static_cast<int64_t>(tensors.size()), -static_cast<int64_t>(tensors.size())};
  replicas.all_reduce(std::span<int64_t>(range), ReduceOp::max);
  if (range[0] == -range[1] && range[2] == -range[3]) return;
  if (range[2] != -range[3]) {
    fail(ErrorKind::diverged, "replicas differ on axis {}: ranks hold {} to {} tensors", replicas.name(), -range[3],
         range[2]);
  }
  report_difference(replicas, tensors);
}

}  // namespace farsight
