// SPDX-License-Identifier: Apache-2.0
#include "kernels/offload_device.h"

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace farsight {
namespace {

std::shared_ptr<void> share(const std::shared_ptr<Allocator>& from, int64_t bytes) {
  return {from->allocate(bytes, MemoryTag::activation), [from](void* p) { from->release(p); }};
}

class DeviceOffload final : public ActivationOffload {
 public:
  explicit DeviceOffload(CudaDevice& device)
      : device_(device), pinned_(device.make_pinned_memory()), copies_(device.make_stream()) {}
  ~DeviceOffload() override;

  ParkedTensor park(const Tensor& value) override;
  Tensor fetch(const ParkedTensor& parked) override;
  OffloadStats stats() const override { return stats_; }

 private:
  struct Waiting {  // a parked value and the last copy that was started for it
    ParkedTensor parked;
    Shape shape;
    DType dtype;
    int64_t bytes;
    CudaEvent copied;
    bool returning = false;  // on its way back, or here
  };
  void let_go(Waiting& waiting);
  void bring_back(Waiting& waiting);

  CudaDevice& device_;
  // Its own: memory that is given back may still be read by a copy under way, which only copies_ knows.
  std::shared_ptr<Allocator> pinned_;
  CudaStream copies_;
  std::vector<Waiting> waiting_;  // in the order of parking
  size_t leaving_ = 0;            // waiting_[leaving_ ..] still have their device memory
  OffloadStats stats_;
};

DeviceOffload::~DeviceOffload() {
  for (Waiting& w : waiting_) {  // a pass that was given up
    if (w.parked->value.defined()) device_.wait_event(w.copied);
    device_.give_event(w.copied);
  }
  device_.drop_stream(copies_);
}

// Later work of the compute stream follows the copy, so its memory may be given out again.
void DeviceOffload::let_go(Waiting& waiting) {
  device_.wait_event(waiting.copied);
  waiting.parked->value = Tensor();
}

ParkedTensor DeviceOffload::park(const Tensor& value) {
  if (!value.contiguous()) fail(ErrorKind::internal, "offload: the rows of an activation are not contiguous");
  auto parked = std::make_shared<ParkedValue>(ParkedValue{value, share(pinned_, value.bytes())});
  device_.order_stream(copies_);  // the value is complete when its copy begins
  device_.copy_out(value.raw(), parked->pinned.get(), value.bytes(), copies_);
  waiting_.push_back({parked, value.shape(), value.dtype(), value.bytes(), device_.mark(copies_)});
  for (; static_cast<int64_t>(waiting_.size() - leaving_) > kOffloadAhead; ++leaving_) let_go(waiting_[leaving_]);
  ++stats_.parks;
  stats_.parked_bytes += value.bytes();
  stats_.moved_bytes += value.bytes();
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.parked_bytes);
  return parked;
}

void DeviceOffload::bring_back(Waiting& waiting) {
  if (waiting.returning || waiting.parked->value.defined()) return;
  const Tensor value = Tensor::empty(waiting.shape, waiting.dtype);
  device_.order_stream(copies_);  // what used this memory before is done
  device_.copy_in(waiting.parked->pinned.get(), value.raw(), waiting.bytes, copies_);
  device_.give_event(std::exchange(waiting.copied, device_.mark(copies_)));
  waiting.parked->value = value;
  waiting.returning = true;
  stats_.moved_bytes += waiting.bytes;
}

Tensor DeviceOffload::fetch(const ParkedTensor& parked) {
  if (waiting_.empty() || waiting_.back().parked != parked) {
    fail(ErrorKind::internal, "offload: an activation is fetched twice, or before those that were parked after it");
  }
  for (size_t i = 0; i < waiting_.size() && static_cast<int64_t>(i) < kOffloadAhead; ++i) {
    bring_back(waiting_[waiting_.size() - 1 - i]);
  }
  Waiting last = std::move(waiting_.back());
  waiting_.pop_back();
  leaving_ = std::min(leaving_, waiting_.size());
  device_.wait_event(last.copied);
  device_.give_event(last.copied);
  ++stats_.fetches;
  stats_.parked_bytes -= last.bytes;
  last.parked->pinned.reset();
  return std::exchange(last.parked->value, Tensor());
}

}  // namespace

std::unique_ptr<ActivationOffload> make_device_offload(CudaDevice& device) {
  return std::make_unique<DeviceOffload>(device);
}

}  // namespace farsight
