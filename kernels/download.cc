// SPDX-License-Identifier: Apache-2.0
#include "kernels/download.h"

#include <cstring>
#include <utility>

#include "kernels/cuda/device.h"

namespace farsight {

Download::Download(const Tensor& from)
    : values_(Tensor::empty(from.shape(), from.dtype(), MemoryTag::data, Device::cpu)) {
  if (from.device() == Device::cpu) {
    copy_to_host(from.raw(), Device::cpu, values_.raw(), from.bytes());
    return;
  }
  device_ = &cuda_device();
  pinned_ = device_->pinned(from.bytes());
  device_->copy_out(from.raw(), pinned_.get(), from.bytes(), device_->stream());
  arrived_ = device_->mark(device_->stream());
}

Download::~Download() { drop(); }

Download::Download(Download&& other) noexcept { *this = std::move(other); }

Download& Download::operator=(Download&& other) noexcept {
  if (this == &other) return *this;
  drop();
  values_ = std::exchange(other.values_, Tensor());
  pinned_ = std::move(other.pinned_);
  device_ = std::exchange(other.device_, nullptr);
  arrived_ = std::exchange(other.arrived_, nullptr);
  return *this;
}

// The memory must not be given out again while the copy is under way.
void Download::drop() noexcept {
  if (device_ == nullptr) return;
  device_->keep_until(arrived_, std::move(pinned_));
  device_ = nullptr;
}

const Tensor& Download::wait() {
  if (device_ == nullptr) return values_;
  device_->wait_on_host(arrived_);
  std::memcpy(values_.raw(), pinned_.get(), static_cast<size_t>(values_.bytes()));
  device_->give_event(arrived_);
  pinned_.reset();
  device_ = nullptr;
  return values_;
}

}  // namespace farsight
