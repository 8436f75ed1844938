// SPDX-License-Identifier: Apache-2.0
// Transfers between the devices of several ranks, as one rank sees them: each goes through the communication stream of
// its group, behind what the compute stream had to do when it was started, and the compute stream goes on behind it
// when somebody waits for its request. The host never waits. Used from the rank's thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/tensor.h"
#include "parallel/comm.h"
#include "parallel/flight_log.h"

namespace farsight {

// A rank's membership in a group of ranks with a device each, and the stream of the group's transfers.
class DeviceGroup {
 public:
  // Takes over `ranks`. `members`: ranks of the world, in order of the group.
  DeviceGroup(CudaDevice& device, CudaRanks ranks, std::string name, std::vector<int> members);
  ~DeviceGroup();
  DeviceGroup(const DeviceGroup&) = delete;
  DeviceGroup& operator=(const DeviceGroup&) = delete;

  CudaDevice& device() const { return device_; }
  CudaRanks ranks() const { return ranks_; }  // null once it has left
  CudaStream stream() const { return stream_; }
  const std::string& name() const { return name_; }
  const std::vector<int>& members() const { return members_; }
  const std::string& failure() const { return failure_; }
  // Leaves when what is under way has finished; during unwinding aborts, because the others may never answer.
  void leave() noexcept;
  void abort(std::string failure) noexcept;

 private:
  CudaDevice& device_;
  CudaRanks ranks_;
  std::string failure_;
  CudaStream stream_ = nullptr;
  std::string name_;
  std::vector<int> members_;
  int exceptions_;
};

// All transfers of a rank that are under way.
class DeviceTransfers {
 public:
  using Enqueue = std::function<int(CudaRanks ranks, CudaStream stream)>;

  // While the device is waited for, it is watched for failed groups.
  DeviceTransfers(CudaDevice& device, FlightLog& log);
  ~DeviceTransfers();
  DeviceTransfers(const DeviceTransfers&) = delete;
  DeviceTransfers& operator=(const DeviceTransfers&) = delete;

  CudaDevice& device() const { return device_; }
  void watch(const std::shared_ptr<DeviceGroup>& group) { groups_.push_back(group); }
  // enqueue() puts the operation on the stream; the tensors live until somebody has waited for the request, which must
  // not outlive this. Throws Error{environment} when the group has failed.
  RequestPtr start(const std::shared_ptr<DeviceGroup>& group, FlightEntry entry, std::vector<Tensor> tensors,
                   const Enqueue& enqueue);
  // Marks in the flight log what has finished since. A group that has failed is aborted, and Error{environment} names
  // it, its ranks and the operation that did not finish.
  void poll();
  // How long the compute stream has stood still, waiting for transfers that have finished and were polled.
  double exposed_ms() const { return exposed_ms_; }

 private:
  struct Flight;
  class FlightRequest;

  void check_group(DeviceGroup& group);
  void retire();
  bool passed(CudaEvent event) const;
  void wait(Flight& flight);
  bool test(Flight& flight);

  CudaDevice& device_;
  FlightLog& log_;
  std::vector<std::weak_ptr<DeviceGroup>> groups_;
  std::list<std::shared_ptr<Flight>> flights_;  // oldest first
  double exposed_ms_ = 0.0;
};

}  // namespace farsight
