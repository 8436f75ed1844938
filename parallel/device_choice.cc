// SPDX-License-Identifier: Apache-2.0
#include "parallel/device_choice.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "kernels/error.h"
#include "parallel/mpi_comm.h"

namespace farsight {
namespace {

// Names as they travel: what is longer is cut on all ranks alike.
struct Record {
  std::array<char, 256> host{};
  std::array<char, 32> bus_id{};
};

template <size_t n>
void put(std::array<char, n>& to, const std::string& text) {
  std::memcpy(to.data(), text.data(), std::min(text.size(), n - 1));
}

// "0 and 1", "0, 2 and 5"
std::string list_of(const std::vector<size_t>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const char* before = i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ";
    text += fmt::format("{}{}", before, ranks[i]);
  }
  return text;
}

}  // namespace

CommunicatorChoice choose_between(std::span<const RankDevice> ranks) {
  if (ranks.size() < 2) return {true, "communicator: none needed, 1 rank"};
  std::map<std::pair<std::string, std::string>, std::vector<size_t>> users;
  for (size_t r = 0; r < ranks.size(); ++r) users[{ranks[r].host, ranks[r].bus_id}].push_back(r);
  for (const auto& rank : ranks) {  // the first in rank order is named
    const auto& sharing = users[{rank.host, rank.bus_id}];
    if (sharing.size() < 2) continue;
    return {false, fmt::format("communicator: staged through host memory: ranks {} share device {} of host {}",
                               list_of(sharing), rank.bus_id, rank.host)};
  }
  return {true, fmt::format("communicator: NCCL, {} ranks on {} devices", ranks.size(), users.size())};
}

std::vector<RankDevice> gather_devices(Communicator& world, const RankDevice& own) {
  Record mine;
  put(mine.host, own.host);
  put(mine.bus_id, own.bus_id);
  std::vector<Record> all(static_cast<size_t>(world.size()));
  const std::vector<int64_t> bytes(all.size(), static_cast<int64_t>(sizeof(Record)));
  world.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)), bytes);
  std::vector<RankDevice> devices;
  for (const Record& record : all) devices.push_back({record.host.data(), record.bus_id.data()});
  return devices;
}

DeviceCommunicator choose_device_communicator(Communicator& world, CudaDevice& device, const NcclOptions& options) {
  const CommunicatorChoice choice = choose_between(gather_devices(world, {host_name(), device.info().bus_id}));
  DeviceCommunicator chosen{nullptr, choice.line};
  if (choice.nccl) chosen.nccl = make_nccl_communicator(world, device, options);
  return chosen;
}

}  // namespace farsight
