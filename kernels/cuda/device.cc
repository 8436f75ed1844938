// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.h"

#include <cstring>
#include <utility>

#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "kernels/tensor.h"

namespace farsight {
namespace {

CudaDevice*& current() {
  thread_local CudaDevice* device = nullptr;
  return device;
}

const CudaBackend& usable_backend() {
  const CudaLibrary& library = cuda_library();
  if (library.table == nullptr) fail(ErrorKind::environment, "{}", library.reason);
  return *library.table;
}

class DeviceMemory final : public MemorySource {
 public:
  explicit DeviceMemory(const CudaBackend& backend) : backend_(backend) {}
  void* allocate(int64_t bytes) override {
    void* pointer = nullptr;
    return backend_.allocate(bytes, &pointer) == 0 ? pointer : nullptr;
  }
  void release(void* pointer) noexcept override { backend_.release(pointer); }
  const char* name() const override { return "device memory"; }

 private:
  const CudaBackend& backend_;
};

class PinnedMemory final : public MemorySource {
 public:
  explicit PinnedMemory(const CudaBackend& backend) : backend_(backend) {}
  void* allocate(int64_t bytes) override {
    void* pointer = nullptr;
    return backend_.allocate_pinned(bytes, &pointer) == 0 ? pointer : nullptr;
  }
  void release(void* pointer) noexcept override { backend_.release_pinned(pointer); }
  const char* name() const override { return "pinned host memory"; }

 private:
  const CudaBackend& backend_;
};

// The owner keeps the allocator alive: tensors may outlive the CudaDevice.
std::shared_ptr<void> take(const std::shared_ptr<Allocator>& from, int64_t bytes, MemoryTag tag) {
  return {from->allocate(bytes, tag), [from](void* p) { from->release(p); }};
}

}  // namespace

Device current_device() { return current() == nullptr ? Device::cpu : Device::cuda; }

CudaDevice& cuda_device() {
  if (current() == nullptr) fail(ErrorKind::internal, "cuda: this thread computes on the CPU");
  return *current();
}

CudaScope::CudaScope(CudaDevice& device) : outer_(current()) {
  device.check("selecting the device", device.backend().select(device.index()));
  current() = &device;
}
CudaScope::~CudaScope() { current() = outer_; }

CudaDevice::CudaDevice(int32_t index) : backend_(usable_backend()), index_(index) {
  if (index < 0 || index >= cuda_library().devices) {
    fail(ErrorKind::environment, "CUDA device {} does not exist: there are {}", index, cuda_library().devices);
  }
  check("selecting the device", backend_.select(index));
  check("making a stream", backend_.stream_create(0, &stream_));
  memory_ = std::make_shared<Allocator>(std::make_unique<DeviceMemory>(backend_));
  pinned_ = std::make_shared<Allocator>(std::make_unique<PinnedMemory>(backend_));
}

CudaDevice::~CudaDevice() {
  backend_.stream_synchronize(stream_);
  for (auto& upload : uploads_) backend_.event_destroy(upload.event);
  for (CudaEvent event : spare_events_) backend_.event_destroy(event);
  backend_.stream_destroy(stream_);
}

void CudaDevice::check(const char* what, int status) const {
  if (status != 0) fail(ErrorKind::environment, "cuda device {}: {}: {}", index_, what, backend_.message());
}

CudaDeviceInfo CudaDevice::info() const {
  CudaDeviceInfo info{};
  check("device properties", backend_.device_info(index_, &info));
  return info;
}

std::shared_ptr<void> CudaDevice::allocate(int64_t bytes, MemoryTag tag) { return take(memory_, bytes, tag); }

CudaEvent CudaDevice::take_event() {
  CudaEvent event = nullptr;
  if (spare_events_.empty()) {
    check("making an event", backend_.event_create(&event));
  } else {
    event = spare_events_.back();
    spare_events_.pop_back();
  }
  return event;
}

void CudaDevice::drop_finished_uploads() {
  while (!uploads_.empty()) {
    int32_t finished = 0;
    check("an upload", backend_.event_query(uploads_.front().event, &finished));
    if (finished == 0) return;
    spare_events_.push_back(uploads_.front().event);
    uploads_.pop_front();
  }
}

void CudaDevice::upload(const void* from_host, void* to, int64_t bytes) {
  if (bytes == 0) return;
  drop_finished_uploads();
  Staged staged{take_event(), take(pinned_, bytes, MemoryTag::data)};
  std::memcpy(staged.memory.get(), from_host, static_cast<size_t>(bytes));
  check("upload", backend_.copy(to, staged.memory.get(), bytes, CudaCopy::to_device, stream_));
  check("upload", backend_.event_record(staged.event, stream_));
  uploads_.push_back(std::move(staged));
}

void CudaDevice::download(const void* from, void* to_host, int64_t bytes) {
  if (bytes == 0) return;
  const auto staged = take(pinned_, bytes, MemoryTag::data);
  check("download", backend_.copy(staged.get(), from, bytes, CudaCopy::to_host, stream_));
  synchronize();
  std::memcpy(to_host, staged.get(), static_cast<size_t>(bytes));
}

void CudaDevice::copy(const void* from, void* to, int64_t bytes) {
  check("copy", backend_.copy(to, from, bytes, CudaCopy::on_device, stream_));
}

void CudaDevice::zero_rows(const Tensor& tensor) {
  const int64_t size = size_of(tensor.dtype());
  if (tensor.contiguous()) {
    check("zero", backend_.zero(tensor.raw(), tensor.bytes(), stream_));
    return;
  }
  auto* row = static_cast<std::byte*>(tensor.raw());
  for (int64_t r = 0; r < tensor.rows(); ++r, row += tensor.row_stride() * size) {
    check("zero", backend_.zero(row, tensor.cols() * size, stream_));
  }
}

void CudaDevice::synchronize() {
  if (watches_.empty()) {
    check("waiting for the device", backend_.stream_synchronize(stream_));
  } else {
    wait_watching();
  }
}

void CudaDevice::watch(const void* owner, std::function<void()> poll) {
  if (poll) {
    watches_[owner] = std::move(poll);
  } else {
    watches_.erase(owner);
  }
}

void CudaDevice::wait_watching() {
  constexpr int kQueriesPerPoll = 64;  // a query takes about a microsecond
  const CudaEvent event = take_event();
  spare_events_.push_back(event);  // nobody else takes one before this returns
  check("waiting for the device", backend_.event_record(event, stream_));
  int32_t finished = 0;
  for (int query = 1; finished == 0; ++query) {
    check("waiting for the device", backend_.event_query(event, &finished));
    if (query % kQueriesPerPoll != 0 && finished == 0) continue;
    for (const auto& [owner, poll] : watches_) poll();
  }
}

}  // namespace farsight
