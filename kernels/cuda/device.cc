// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/arena.h"
#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "kernels/tensor.h"

namespace farsight {

// Device memory from the driver. While a recording is under way nothing goes back: recorded work may use it.
class HeldMemory final : public MemorySource {
 public:
  explicit HeldMemory(const CudaBackend& backend) : backend_(backend) {}
  ~HeldMemory() override { hold(false); }
  void* allocate(int64_t bytes) override {
    void* pointer = nullptr;
    return backend_.allocate(bytes, &pointer) == 0 ? pointer : nullptr;
  }
  void release(void* pointer) noexcept override {
    if (holds_) {
      held_.push_back(pointer);
    } else {
      backend_.release(pointer);
    }
  }
  const char* name() const override { return "device memory"; }
  void hold(bool wanted) {
    holds_ = wanted;
    if (holds_) return;
    for (void* pointer : held_) backend_.release(pointer);
    held_.clear();
  }

 private:
  const CudaBackend& backend_;
  bool holds_ = false;
  std::vector<void*> held_;
};

namespace {

// Pinned memory that copies between host and device pass through: they are cut into pieces of this size.
constexpr int64_t kStagedBytes = int64_t{64} << 20;

CudaDevice*& current() {
  thread_local CudaDevice* device = nullptr;
  return device;
}

const CudaBackend& usable_backend() {
  const CudaLibrary& library = cuda_library();
  if (library.table == nullptr) fail(ErrorKind::environment, "{}", library.reason);
  return *library.table;
}

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

HostScope::HostScope() : outer_(std::exchange(current(), nullptr)) {}
HostScope::~HostScope() { current() = outer_; }

CudaDevice::CudaDevice(int32_t index) : backend_(usable_backend()), index_(index) {
  if (index < 0 || index >= cuda_library().devices) {
    fail(ErrorKind::environment, "CUDA device {} does not exist: there are {}", index, cuda_library().devices);
  }
  check("selecting the device", backend_.select(index));
  check("making a stream", backend_.stream_create(0, &stream_));
  auto source = std::make_unique<HeldMemory>(backend_);
  source_ = source.get();
  std::unique_ptr<MemorySource> memory = std::move(source);
  const CudaDeviceInfo facts = info();
  workspace_limit_ = facts.total_bytes / 8;
  if (facts.shared_chunks != 0) memory = std::make_unique<Arena>(std::move(memory));
  memory_ = std::make_shared<Allocator>(std::move(memory));
  pinned_ = make_pinned_memory();
}

CudaDevice::~CudaDevice() {
  backend_.stream_synchronize(stream_);
  for (CudaEvent event : events_) backend_.event_destroy(event);
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
    events_.push_back(event);
  } else {
    event = spare_events_.back();
    spare_events_.pop_back();
  }
  return event;
}

// Also waits while more than kStagedBytes would be on their way.
void CudaDevice::drop_finished_uploads(int64_t more_bytes) {
  while (!uploads_.empty()) {
    Staged& first = uploads_.front();
    int32_t finished = 0;
    check("an upload", backend_.event_query(first.event, &finished));
    if (finished == 0) {
      if (staged_bytes_ + more_bytes <= kStagedBytes) return;
      check("an upload", backend_.event_synchronize(first.event));
    }
    staged_bytes_ -= first.bytes;
    spare_events_.push_back(first.event);
    uploads_.pop_front();
  }
}

// Until the stream has come here.
void CudaDevice::stage(std::vector<std::shared_ptr<void>> memory, int64_t bytes) {
  uploads_.push_back({mark(stream_), std::move(memory), bytes});
  staged_bytes_ += bytes;
}

void CudaDevice::upload(const void* from_host, void* to, int64_t bytes) {
  for (int64_t done = 0; done < bytes; done += kStagedBytes) {
    const int64_t count = std::min(bytes - done, kStagedBytes);
    if (!recording_) drop_finished_uploads(count);
    const auto staged = pinned(count);
    std::memcpy(staged.get(), static_cast<const std::byte*>(from_host) + done, static_cast<size_t>(count));
    check("upload",
          backend_.copy(static_cast<std::byte*>(to) + done, staged.get(), count, CudaCopy::to_device, stream_));
    if (recording_) {
      recording_->memory.push_back(staged);
      recording_->bytes += count;
    } else {
      stage({staged}, count);
    }
  }
}

void CudaDevice::download(const void* from, void* to_host, int64_t bytes) {
  expect_not_recording();
  for (int64_t done = 0; done < bytes; done += kStagedBytes) {
    const int64_t count = std::min(bytes - done, kStagedBytes);
    const auto staged = take(pinned_, count, MemoryTag::data);
    check("download",
          backend_.copy(staged.get(), static_cast<const std::byte*>(from) + done, count, CudaCopy::to_host, stream_));
    synchronize();
    std::memcpy(static_cast<std::byte*>(to_host) + done, staged.get(), static_cast<size_t>(count));
  }
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

CudaStream CudaDevice::make_stream(bool high_priority) {
  CudaStream stream = nullptr;
  check("making a stream", backend_.stream_create(high_priority ? 1 : 0, &stream));
  return stream;
}

void CudaDevice::drop_stream(CudaStream stream) noexcept {
  backend_.stream_synchronize(stream);
  backend_.stream_destroy(stream);
}

CudaEvent CudaDevice::mark(CudaStream side) {
  expect_not_recording();
  const CudaEvent event = take_event();
  check("marking a stream", backend_.event_record(event, side));
  return event;
}

void CudaDevice::order_stream(CudaStream side) {
  const CudaEvent event = mark(stream_);
  check("ordering a stream", backend_.event_wait(event, side));
  give_event(event);  // the wait has been told which record it means
}

void CudaDevice::wait_event(CudaEvent event) { check("ordering the stream", backend_.event_wait(event, stream_)); }

void CudaDevice::copy_out(const void* from, void* to_pinned, int64_t bytes, CudaStream side) {
  check("copying out", backend_.copy(to_pinned, from, bytes, CudaCopy::to_host, side));
}

void CudaDevice::copy_in(const void* from_pinned, void* to, int64_t bytes, CudaStream side) {
  check("copying in", backend_.copy(to, from_pinned, bytes, CudaCopy::to_device, side));
}

std::shared_ptr<Allocator> CudaDevice::make_pinned_memory() const {
  return std::make_shared<Allocator>(std::make_unique<PinnedMemory>(backend_));
}

std::shared_ptr<void> CudaDevice::pinned(int64_t bytes) { return take(pinned_, bytes, MemoryTag::data); }

void CudaDevice::keep_until(CudaEvent event, std::shared_ptr<void> pinned) noexcept {
  uploads_.push_back({event, {std::move(pinned)}, 0});
}

void CudaDevice::expect_not_recording() const {
  if (recording_) fail(ErrorKind::internal, "cuda: a step that is being recorded waits, or marks a stream");
}

void CudaDevice::begin_recording() {
  expect_not_recording();
  check("recording a step", backend_.record_begin(stream_));
  recording_.emplace();
  source_->hold(true);
}

bool CudaDevice::launch_recording(CudaGraph& graph) {
  int32_t made = 0;
  Recording done = std::move(*recording_);
  recording_.reset();
  const int status = backend_.record_end(stream_, &graph, &made);
  if (status == 0) check("launching a recorded step", backend_.graph_launch(graph, stream_));
  source_->hold(false);
  check("recording a step", status);
  stage(std::move(done.memory), done.bytes);
  drop_finished_uploads(0);
  return made != 0;
}

void CudaDevice::drop_recording() noexcept {
  backend_.record_end(stream_, nullptr, nullptr);
  recording_.reset();
  source_->hold(false);
}

void CudaDevice::synchronize() {
  expect_not_recording();
  if (watches_.empty()) {
    check("waiting for the device", backend_.stream_synchronize(stream_));
  } else {
    const CudaEvent event = mark(stream_);
    wait_on_host(event);
    give_event(event);
  }
}

void CudaDevice::watch(const void* owner, std::function<void()> poll) {
  if (poll) {
    watches_[owner] = std::move(poll);
  } else {
    watches_.erase(owner);
  }
}

void CudaDevice::wait_on_host(CudaEvent event) {
  expect_not_recording();
  if (watches_.empty()) {
    check("waiting for the device", backend_.event_synchronize(event));
    return;
  }
  constexpr int kQueriesPerPoll = 64;  // a query takes about a microsecond
  int32_t finished = 0;
  for (int query = 1; finished == 0; ++query) {
    check("waiting for the device", backend_.event_query(event, &finished));
    if (query % kQueriesPerPoll != 0 && finished == 0) continue;
    for (const auto& [owner, poll] : watches_) poll();
  }
}

}  // namespace farsight
