// SPDX-License-Identifier: Apache-2.0
// A rank's place on a CUDA device: its stream, its memory, and copies between host and device. Everything that a rank
// computes goes through one stream, so that memory which is released can be given out again at once: later work follows
// earlier work.
//
//   CudaDevice device(0);
//   const CudaScope scope(device);           // from here on this thread's tensors and operations are there
//   Tensor y = ...; y.to(Device::cpu) ...
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>

#include "kernels/allocator.h"
#include "kernels/cuda/backend.h"
#include "kernels/dtype.h"

namespace farsight {

class Tensor;

class CudaDevice {
 public:
  // Device `index` of this process. Error{environment} when there is none, with the reason.
  explicit CudaDevice(int32_t index);
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  int32_t index() const { return index_; }
  CudaStream stream() const { return stream_; }
  const CudaBackend& backend() const { return backend_; }
  CudaDeviceInfo info() const;
  MemoryStats memory() const { return memory_->stats(); }
  void reset_peak() { memory_->reset_peak(); }

  std::shared_ptr<void> allocate(int64_t bytes, MemoryTag tag);
  // On the stream. The host memory may change as soon as upload returns, and holds the values when download returns.
  void upload(const void* from_host, void* to, int64_t bytes);
  void download(const void* from, void* to_host, int64_t bytes);
  void copy(const void* from, void* to, int64_t bytes);
  void zero_rows(const Tensor& tensor);
  // Waits until the stream has done everything.
  void synchronize();
  // From now on poll() is called again and again while the host waits for the stream, and once more at the end: what
  // the stream waits for (another rank) may never come, and then poll() throws. One for each owner; null takes it away.
  void watch(const void* owner, std::function<void()> poll);

  // Starts an operation of the backend on the stream: run("norm", &CudaBackend::norm_forward, arguments).
  template <class Arguments>
  void run(const char* what, CudaOperation<Arguments> CudaBackend::*operation, const Arguments& arguments) {
    check(what, (backend_.*operation)(&arguments, stream_));
  }
  // Throws Error{environment} with the backend's message unless status is 0.
  void check(const char* what, int status) const;

 private:
  struct Staged {  // host memory on its way to the device
    CudaEvent event;
    std::shared_ptr<void> memory;
  };
  void drop_finished_uploads();
  CudaEvent take_event();
  void wait_watching();

  const CudaBackend& backend_;
  int32_t index_;
  CudaStream stream_ = nullptr;
  std::shared_ptr<Allocator> memory_, pinned_;
  std::deque<Staged> uploads_;
  std::deque<CudaEvent> spare_events_;
  std::map<const void*, std::function<void()>> watches_;
};

// The device of the innermost scope of this thread. Error{internal} outside of any.
CudaDevice& cuda_device();

class CudaScope {
 public:
  explicit CudaScope(CudaDevice& device);
  ~CudaScope();
  CudaScope(const CudaScope&) = delete;
  CudaScope& operator=(const CudaScope&) = delete;

 private:
  CudaDevice* outer_;
};

}  // namespace farsight
