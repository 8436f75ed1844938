// SPDX-License-Identifier: Apache-2.0
#include "kernels/offload.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"

namespace farsight {
namespace {

class HostOffload final : public ActivationOffload {
 public:
  ParkedTensor park(const Tensor& value) override {
    ++stats_.parks;
    stats_.parked_bytes += value.bytes();
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.parked_bytes);
    return std::make_shared<Tensor>(value);
  }
  Tensor fetch(const ParkedTensor& parked) override {
    if (!parked->defined()) fail(ErrorKind::internal, "offload: an activation is fetched twice");
    ++stats_.fetches;
    stats_.parked_bytes -= parked->bytes();
    return std::exchange(*parked, Tensor());
  }
  OffloadStats stats() const override { return stats_; }

 private:
  OffloadStats stats_;
};

}  // namespace

std::unique_ptr<ActivationOffload> make_host_offload() { return std::make_unique<HostOffload>(); }

}  // namespace farsight
