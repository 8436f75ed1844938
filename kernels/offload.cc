// SPDX-License-Identifier: Apache-2.0
#include "kernels/offload.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "kernels/offload_device.h"

namespace farsight {
namespace {

class HostOffload final : public ActivationOffload {
 public:
  ParkedTensor park(const Tensor& value) override {
    ++stats_.parks;
    stats_.parked_bytes += value.bytes();
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.parked_bytes);
    return std::make_shared<ParkedValue>(ParkedValue{value, nullptr});
  }
  Tensor fetch(const ParkedTensor& parked) override {
    if (!parked->value.defined()) fail(ErrorKind::internal, "offload: an activation is fetched twice");
    ++stats_.fetches;
    stats_.parked_bytes -= parked->value.bytes();
    return std::exchange(parked->value, Tensor());
  }
  OffloadStats stats() const override { return stats_; }

 private:
  OffloadStats stats_;
};

}  // namespace

std::unique_ptr<ActivationOffload> make_offload() {
  if (current_device() == Device::cuda) return make_device_offload(cuda_device());
  return std::make_unique<HostOffload>();
}

}  // namespace farsight
