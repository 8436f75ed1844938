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
#include <optional>
#include <string>
#include <vector>

#include "kernels/allocator.h"
#include "kernels/cuda/backend.h"
#include "kernels/dtype.h"

namespace farsight {

class Tensor;
class HeldMemory;

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

  // Side streams, beside the one that computes: copies that need not delay it.
  CudaStream make_stream(bool high_priority = false);
  void drop_stream(CudaStream stream) noexcept;  // after what it has to do
  // Later work of the side stream follows what the computing stream has been given so far.
  void order_stream(CudaStream side);
  // A mark behind what the side stream has been given so far; wait_event: later computing follows it. give_event: it is
  // not needed any more.
  CudaEvent mark(CudaStream side);
  void wait_event(CudaEvent event);
  void give_event(CudaEvent event) { spare_events_.push_back(event); }
  // On the side stream, between device memory and pinned host memory; the host goes on at once.
  void copy_out(const void* from, void* to_pinned, int64_t bytes, CudaStream side);
  void copy_in(const void* from_pinned, void* to, int64_t bytes, CudaStream side);
  std::shared_ptr<Allocator> make_pinned_memory() const;
  // Pinned host memory of this device's own allocator; keep_until: it is given out again once the event has passed.
  std::shared_ptr<void> pinned(int64_t bytes);
  void keep_until(CudaEvent event, std::shared_ptr<void> pinned) noexcept;
  // The host waits for the event, watching as synchronize() does.
  void wait_on_host(CudaEvent event);

  // What the stream is given from begin_recording() on is kept; launch_recording() hands it over as `graph` (null: made
  // now), and returns whether the graph had to be made from nothing. Waiting in between is Error{internal}. Use
  // step_graph.h.
  void begin_recording();
  bool launch_recording(CudaGraph& graph);
  void drop_recording() noexcept;

  // Results with equal bits from run to run, which some operations of libraries offer at a price; on by default.
  bool deterministic() const { return deterministic_; }
  void set_deterministic(bool wanted) { deterministic_ = wanted; }
  // The most that one operation may take as working memory.
  int64_t workspace_limit() const { return workspace_limit_; }
  // What computes something, for the log of a run: the last word on each matter, by matter.
  void note(const std::string& matter, const std::string& choice) { notes_[matter] = choice; }
  const std::map<std::string, std::string>& notes() const { return notes_; }

  // Starts an operation of the backend on the stream: run("norm", &CudaBackend::norm_forward, arguments).
  template <class Arguments>
  void run(const char* what, CudaOperation<Arguments> CudaBackend::*operation, const Arguments& arguments) {
    check(what, (backend_.*operation)(&arguments, stream_));
  }
  // Throws Error{environment} with the backend's message unless status is 0.
  void check(const char* what, int status) const;

 private:
  struct Staged {  // pinned memory that copies under way read or write
    CudaEvent event;
    std::vector<std::shared_ptr<void>> memory;
    int64_t bytes;
  };
  struct Recording {
    std::vector<std::shared_ptr<void>> memory;  // that the recorded uploads read
    int64_t bytes = 0;
  };
  void stage(std::vector<std::shared_ptr<void>> memory, int64_t bytes);
  void drop_finished_uploads(int64_t more_bytes);
  void expect_not_recording() const;
  CudaEvent take_event();

  const CudaBackend& backend_;
  int32_t index_;
  CudaStream stream_ = nullptr;
  bool deterministic_ = true;
  int64_t workspace_limit_ = 0;
  std::map<std::string, std::string> notes_;
  HeldMemory* source_ = nullptr;  // of memory_
  std::shared_ptr<Allocator> memory_, pinned_;
  std::deque<Staged> uploads_;
  int64_t staged_bytes_ = 0;
  std::optional<Recording> recording_;
  std::vector<CudaEvent> events_;  // all that were made: what an exception leaves behind is destroyed with the device
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

// While it lives, this thread computes on the CPU.
class HostScope {
 public:
  HostScope();
  ~HostScope();
  HostScope(const HostScope&) = delete;
  HostScope& operator=(const HostScope&) = delete;

 private:
  CudaDevice* outer_;
};

}  // namespace farsight
