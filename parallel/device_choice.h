// SPDX-License-Identifier: Apache-2.0
// How ranks on devices exchange tensors: through NCCL where every rank has a device of its own, else staged through
// host memory (comm.h), because NCCL below 2.30 refuses two ranks on one device. Decided once, from what all ranks see.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "parallel/comm.h"
#include "parallel/nccl_comm.h"

namespace farsight {

struct RankDevice {
  std::string host, bus_id;  // of the PCI bus; tells the devices of one host apart
};

struct CommunicatorChoice {
  bool nccl = false;
  // "communicator: NCCL, 4 ranks on 4 devices"
  // "communicator: staged through host memory: ranks 0 and 1 share device 0000:1b:00.0 of host x"
  std::string line;
};
// `ranks` by rank. No side effects.
CommunicatorChoice choose_between(std::span<const RankDevice> ranks);

// Collective: the device of every rank of the world.
std::vector<RankDevice> gather_devices(Communicator& world, const RankDevice& own);

struct DeviceCommunicator {
  std::unique_ptr<Communicator> nccl;  // null: use the world as it is
  std::string line;                    // for the log, the same on all ranks
};
// Collective over `world`; `device` is this thread's. Both must outlive the result. Throws what make_nccl_communicator
// throws, on all ranks alike.
DeviceCommunicator choose_device_communicator(Communicator& world, CudaDevice& device, const NcclOptions& options = {});

}  // namespace farsight
