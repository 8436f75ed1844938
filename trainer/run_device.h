// SPDX-License-Identifier: Apache-2.0
// Where the ranks of a run compute: run.device and train.precision, and which device each rank takes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/device.h"
#include "parallel/comm.h"
#include "parallel/device_choice.h"
#include "trainer/config.h"

namespace farsight {

// The type of the values that operations read, on the device of this thread. bf16 is a format of devices: on the CPU
// the same model computes in fp32 (evaluation and generation of a run that was trained on a device).
DType value_type(const Config& config);

// "auto", "cpu", "cuda" of a --device option; Error{usage} for anything else.
DeviceChoice parse_device(std::string_view text);

// What the host of a rank has for it; which device it takes (RankDevice) is known when one is open.
struct RankDevices {
  std::string host;
  int64_t devices = 0;
  std::string reason;  // why there are none
};

// The device index of every rank, empty: all compute on the CPU. Ranks of a host are dealt to its devices in turn.
// Error{environment} when "cuda" is wanted and a rank has no device, or "auto" and only some ranks have one; the
// message names the rank and its reason.
std::vector<int32_t> choose_devices(DeviceChoice wanted, std::span<const RankDevices> ranks);

// The device of this rank, on which its thread computes while the object lives.
class RunDevice {
 public:
  // Collective; the same Error on all ranks: those of choose_devices, and Error{environment} where training in bf16
  // meets no device.
  RunDevice(const Config& config, Communicator& world, bool training);

  // The ranks, with tensors of devices travelling as their places allow (device_choice.h). Lives as long as this.
  Communicator& world() const { return transfers_.nccl ? *transfers_.nccl : world_; }

  // "the CPU (reason)", "CUDA: NVIDIA H200, 2 ranks on 2 devices; communicator: NCCL, 2 ranks on 2 devices". Of rank 0.
  const std::string& description() const { return description_; }
  // What this rank's share of its device can do in the run's precision, FLOP/s; 0: the CPU, or an unknown device.
  double peak_flops(const Config& config) const;
  // Name of the device; empty on the CPU.
  std::string name() const { return device_ == nullptr ? std::string() : device_->info().name; }

 private:
  Communicator& world_;
  std::unique_ptr<CudaDevice> device_;
  std::optional<CudaScope> scope_;
  DeviceCommunicator transfers_;
  std::string description_;
  double share_ = 1.0;  // of its device, for a rank
};

// Memory of the device of this thread, or of the host process where that computes.
MemoryStats computing_memory();
void reset_computing_peak();

}  // namespace farsight
