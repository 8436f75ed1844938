// SPDX-License-Identifier: Apache-2.0
#include "trainer/run_device.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "parallel/agree.h"
#include "parallel/mpi_comm.h"
#include "parallel/text_exchange.h"

namespace farsight {
namespace {

RankDevices own_devices() {
  const CudaLibrary& library = cuda_library();
  return {host_name(), library.table == nullptr ? 0 : library.devices, library.reason};
}

std::vector<RankDevices> all_devices(Communicator& world) {
  const RankDevices mine = own_devices();
  std::vector<RankDevices> ranks;
  for (const std::string& text : gather_texts(world, fmt::format("{}\n{}\n{}", mine.host, mine.devices, mine.reason))) {
    const size_t first = text.find('\n'), second = text.find('\n', first + 1);
    RankDevices rank{text.substr(0, first), 0, text.substr(second + 1)};
    std::from_chars(text.data() + first + 1, text.data() + second, rank.devices);
    ranks.push_back(std::move(rank));
  }
  return ranks;
}

size_t devices_in_use(std::span<const RankDevices> ranks, std::span<const int32_t> chosen) {
  std::set<std::pair<std::string, int32_t>> used;
  for (size_t r = 0; r < ranks.size(); ++r) used.emplace(ranks[r].host, chosen[r]);
  return used.size();
}

}  // namespace

DType value_type(const Config& config) {
  const bool rounded = config.train.precision == PrecisionChoice::bf16 && current_device() == Device::cuda;
  return rounded ? DType::bf16 : DType::f32;
}

DeviceChoice parse_device(std::string_view text) {
  if (text == "auto") return DeviceChoice::automatic;
  if (text == "cpu") return DeviceChoice::cpu;
  if (text == "cuda") return DeviceChoice::cuda;
  fail(ErrorKind::usage, "--device={} is unknown; use auto, cpu or cuda", text);
}

std::vector<int32_t> choose_devices(DeviceChoice wanted, std::span<const RankDevices> ranks) {
  if (wanted == DeviceChoice::cpu) return {};
  const auto without = std::find_if(ranks.begin(), ranks.end(), [](const RankDevices& r) { return r.devices == 0; });
  const bool some = std::any_of(ranks.begin(), ranks.end(), [](const RankDevices& r) { return r.devices > 0; });
  if (without != ranks.end()) {
    if (wanted == DeviceChoice::automatic && !some) return {};
    fail(ErrorKind::environment,
         "run.device = \"{}\": rank {} on {} cannot compute on a CUDA device: {}. `farsight doctor` says more; "
         "--run.device=cpu "
         "computes on the CPU",
         wanted == DeviceChoice::cuda ? "cuda" : "auto", without - ranks.begin(), without->host, without->reason);
  }
  std::vector<int32_t> chosen;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const auto before = std::count_if(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(r),
                                      [&](const RankDevices& other) { return other.host == ranks[r].host; });
    chosen.push_back(static_cast<int32_t>(before % ranks[r].devices));
  }
  return chosen;
}

RunDevice::RunDevice(const Config& config, Communicator& world, bool training) : world_(world) {
  const bool asked = config.run.device == DeviceChoice::cpu;
  // The plugin and its large libraries are not opened for a run that does not want them.
  const auto ranks = asked ? std::vector<RankDevices>() : all_devices(world);
  const auto chosen = choose_devices(config.run.device, ranks);
  if (chosen.empty()) {
    description_ = asked ? "the CPU" : fmt::format("the CPU ({})", ranks.front().reason);
    if (training && config.train.precision == PrecisionChoice::bf16) {
      fail(ErrorKind::environment,
           "train.precision = \"bf16\" needs CUDA devices, and this run computes on {}; --train.precision=f32 trains "
           "there",
           description_);
    }
    return;
  }
  together(world, [&] { device_ = std::make_unique<CudaDevice>(chosen[static_cast<size_t>(world.rank())]); });
  scope_.emplace(*device_);
  device_->set_deterministic(config.run.deterministic);
  if (world.size() > 1) transfers_ = choose_device_communicator(world, *device_);
  const size_t used = devices_in_use(ranks, chosen);
  share_ = static_cast<double>(used) / static_cast<double>(ranks.size());
  description_ =
      fmt::format("CUDA: {}, {} rank{} on {} device{}{}{}", name(), ranks.size(), ranks.size() == 1 ? "" : "s", used,
                  used == 1 ? "" : "s", transfers_.line.empty() ? "" : "; ", transfers_.line);
}

double RunDevice::peak_flops(const Config& config) const {
  // Dense tensor-core bf16 and plain fp32 of the SXM boards (H200 and H100 data sheets).
  const std::string device = name();
  const bool hopper = device.find("H200") != std::string::npos || device.find("H100 80GB HBM3") != std::string::npos ||
                      device.find("GH200") != std::string::npos;
  if (!hopper) return 0.0;
  return share_ * (config.train.precision == PrecisionChoice::bf16 ? 989.4e12 : 66.9e12);
}

MemoryStats computing_memory() {
  return current_device() == Device::cuda ? cuda_device().memory() : host_allocator().stats();
}

void reset_computing_peak() {
  current_device() == Device::cuda ? cuda_device().reset_peak() : host_allocator().reset_peak();
}

}  // namespace farsight
