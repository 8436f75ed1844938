// SPDX-License-Identifier: Apache-2.0
#include "parallel/device_choice.h"

#include <map>
#include <utility>

#include "kernels/error.h"
#include "parallel/mpi_comm.h"
#include "parallel/text_exchange.h"

namespace farsight {
namespace {

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
  std::vector<RankDevice> devices;
  for (const std::string& text : gather_texts(world, own.host + '\n' + own.bus_id)) {
    const size_t end = text.find('\n');
    devices.push_back({text.substr(0, end), text.substr(end + 1)});
  }
  return devices;
}

DeviceCommunicator choose_device_communicator(Communicator& world, CudaDevice& device, const NcclOptions& options) {
  const CommunicatorChoice choice = choose_between(gather_devices(world, {host_name(), device.info().bus_id}));
  DeviceCommunicator chosen{nullptr, choice.line};
  if (choice.nccl) chosen.nccl = make_nccl_communicator(world, device, options);
  return chosen;
}

}  // namespace farsight
