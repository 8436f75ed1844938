// SPDX-License-Identifier: Apache-2.0
#include "parallel/replica_check.h"

#include <algorithm>
#include <exception>
#include <map>
#include <utility>

#include <xxhash.h>

#include "kernels/error.h"
#include "parallel/agree.h"

namespace farsight {

ReplicaTensor replica_tensor(std::string name, const Tensor& values) {
  const Tensor host = values.to(Device::cpu);
  return {std::move(name), {static_cast<const std::byte*>(host.raw()), static_cast<size_t>(host.bytes())}, host};
}

std::vector<ReplicaTensor> replica_tensors(const ParameterStore& store) {
  std::vector<ReplicaTensor> tensors;
  for (const Parameter& p : store.parameters()) tensors.push_back(replica_tensor(p.name, p.value));
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

// What the optimizer updates on this rank.
std::vector<ReplicaTensor> piece_tensors(const ParameterShards& shards) {
  const char* what = shards.has_masters() ? "master values" : "shard";
  std::vector<ReplicaTensor> tensors;
  for (const auto& piece : shards.pieces()) {
    tensors.push_back(replica_tensor(fmt::format("{} at {}", what, piece.range.begin), shards.values(piece)));
  }
  return tensors;
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

void check_replicas(const ParameterShards& shards) {
  Mesh& mesh = shards.mesh();
  // A group that differs must not leave the others inside their next collective.
  const auto check = [&](AxisSet axes, std::span<const ReplicaTensor> tensors) {
    std::exception_ptr error;
    try {
      check_replicas(mesh.communicator(axes), tensors);
    } catch (const Error&) {
      error = std::current_exception();
    }
    agree_on_error(mesh.world(), error);
  };
  if (shards.stage() == 3) {
    check({Axis::zrep}, piece_tensors(shards));
    return;
  }
  const auto all = replica_tensors(shards.store());
  check(kDataContextAxes, all);
  if (shards.has_masters()) {  // they may part long before the rounded values do
    const AxisSet replicas = shards.stage() == 0 ? kDataContextAxes : AxisSet{Axis::zrep};
    check(replicas, piece_tensors(shards));
  }
  // Inside the tensor group: what every rank of it holds, and key heads that several ranks hold.
  std::map<AxisSet, std::vector<ReplicaTensor>> inside;
  for (size_t i = 0; i < all.size(); ++i) {
    const AxisSet axes = replicate_axes(shards.placements()[i], mesh.shape()).without(kDataContextAxes);
    if (!axes.empty()) inside[axes].push_back(all[i]);
  }
  for (const auto& [axes, tensors] : inside) check(axes, tensors);
}

}  // namespace farsight
