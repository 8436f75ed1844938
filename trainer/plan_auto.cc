// SPDX-License-Identifier: Apache-2.0
#include "trainer/plan_auto.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "parallel/mpi_comm.h"
#include "trainer/host_memory.h"
#include "trainer/plan_candidates.h"

namespace farsight {
namespace {

// Bytes for a rank of the node or device that has least, the same on all ranks.
int64_t agreed_memory(Communicator& world) {
  std::string place = host_name();
  int64_t available = available_host_memory();
  if (current_device() == Device::cuda) {
    const CudaDeviceInfo info = cuda_device().info();
    place += info.bus_id;
    available = info.free_bytes;
  }
  const auto host = static_cast<int64_t>(std::hash<std::string>()(place) & 0x7FFFFFFFFFFFFFFF);
  std::vector<int64_t> hosts(static_cast<size_t>(world.size()));
  const std::vector<int64_t> counts(hosts.size(), sizeof(int64_t));
  world.all_gather(std::as_bytes(std::span(&host, 1)), std::as_writable_bytes(std::span(hosts)), counts);
  const auto here = std::count(hosts.begin(), hosts.end(), host);
  std::array<int64_t, 1> bytes{available / std::max<int64_t>(1, here)};
  world.all_reduce(std::span<int64_t>(bytes), ReduceOp::min);
  return bytes[0];
}

}  // namespace

Config choose_layout(const Config& config, int64_t ranks, int64_t vocab, int64_t memory_limit,
                     const Calibration& calibration, int64_t ranks_per_node) {
  if (!has_automatic_layout(config)) return config;
  const ParallelConfig& p = config.parallel;
  CandidateRequest request;
  request.ranks = ranks;
  request.vocab = vocab;
  request.memory_limit = memory_limit;
  request.ranks_per_node = ranks_per_node;
  request.freedom = {.data = p.data == 0,
                     .tensor = p.tensor == kAutomaticExtent,
                     .sequence_parallel = false,
                     .ring = p.ring == kAutomaticExtent,
                     .ulysses = p.ulysses == kAutomaticExtent,
                     .zero = p.zero == kAutomaticStage,
                     .recompute = false,
                     .micro_batch = false};
  const auto candidates = plan_candidates(config, request, calibration);
  if (candidates.empty())
    fail(ErrorKind::config, "no layout of {} ranks has the extents that parallel.* asks for", ranks);
  if (!candidates.front().rejected.empty()) fail(ErrorKind::config, "{}", candidates.front().rejected);
  Config chosen = config;
  chosen.parallel = candidates.front().config.parallel;
  return chosen;
}

Config choose_layout(const Config& config, Communicator& world, int64_t vocab) {
  if (!has_automatic_layout(config)) return config;
  int64_t known = std::max(config.model.vocab, vocab);
  world.all_reduce(std::span<int64_t>(&known, 1), ReduceOp::max);
  return choose_layout(config, world.size(), known, agreed_memory(world),
                       run_calibration(config, current_device() == Device::cuda), 0);
}

}  // namespace farsight
