// SPDX-License-Identifier: Apache-2.0
#include "tests/emulation/streams.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

namespace farsight {

struct CudaStreamTag {
  std::deque<std::function<void()>> queue;
  uint64_t taken = 0, added = 0;  // pieces of work that have run, that were ever enqueued
};

// The state of an event at its last record.
struct CudaEventTag {
  CudaStream stream = nullptr;
  uint64_t position = 0;  // work of the stream that precedes it
  std::chrono::steady_clock::time_point time;
};

namespace cuda {
namespace {
thread_local std::string message_text;
}

int failed(int status, const char* what, const char* why) {
  message_text = std::string(what) + ": " + why;
  return status;
}
const char* last_message() { return message_text.c_str(); }

}  // namespace cuda

namespace emulation {
namespace {

using cuda::failed;

void run_until(CudaStream stream, uint64_t position) {
  while (stream->taken < position) {
    auto work = std::move(stream->queue.front());
    stream->queue.pop_front();
    ++stream->taken;
    work();
  }
}

int guarded(const char* what, const std::function<void()>& body) {
  try {
    body();
    return 0;
  } catch (const std::exception& error) {
    return failed(1, what, error.what());
  }
}

int device_count(int32_t* count) {
  const char* text = std::getenv("FARSIGHT_EMULATION_DEVICES");
  *count = text == nullptr ? 1 : std::atoi(text);
  return 0;
}

// A device of 1 GiB; FARSIGHT_EMULATION_DEVICES of them.
int device_info(int32_t device, CudaDeviceInfo* info) {
  *info = {};
  std::strncpy(info->name, "CUDA emulated on the CPU", sizeof(info->name) - 1);
  std::snprintf(info->bus_id, sizeof(info->bus_id), "00000000:%02X:00.0", static_cast<unsigned>(device) & 0xFFU);
  info->multiprocessors = 2;
  info->capability = 90;
  info->total_bytes = info->free_bytes = int64_t{1} << 30;
  return 0;
}

int select(int32_t) { return 0; }

// Filled with NaN, so that reading what nothing wrote shows.
int allocate(int64_t bytes, void** pointer) {
  const auto rounded = (static_cast<size_t>(bytes) + 255) / 256 * 256;
  *pointer = std::aligned_alloc(256, rounded == 0 ? 256 : rounded);
  if (*pointer == nullptr) return failed(2, "allocate", "no memory");
  std::memset(*pointer, 0xFF, rounded);
  return 0;
}
int release(void* pointer) {
  std::free(pointer);
  return 0;
}

int stream_create(int32_t, CudaStream* stream) {
  *stream = new CudaStreamTag;
  return 0;
}
int stream_synchronize(CudaStream stream) {
  return guarded("stream", [&] { run_until(stream, stream->added); });
}
int stream_destroy(CudaStream stream) {
  const int status = stream_synchronize(stream);
  delete stream;
  return status;
}

int event_create(CudaEvent* event) {
  *event = new CudaEventTag;
  return 0;
}
int event_destroy(CudaEvent event) {
  delete event;
  return 0;
}
int event_record(CudaEvent event, CudaStream stream) {
  event->stream = stream;
  event->position = stream->added;
  event->time = std::chrono::steady_clock::now();
  return 0;
}
int event_wait(CudaEvent event, CudaStream stream) {
  if (event->stream == nullptr || event->stream == stream) return 0;
  return enqueue(stream, [from = event->stream, position = event->position] { run_until(from, position); });
}
int event_synchronize(CudaEvent event) {
  if (event->stream == nullptr) return 0;
  return guarded("event", [&] { run_until(event->stream, event->position); });
}
// Somebody who polls would wait for ever if nothing ran.
int event_query(CudaEvent event, int32_t* finished) {
  *finished = 1;
  return event_synchronize(event);
}
int event_elapsed(CudaEvent from, CudaEvent to, float* milliseconds) {
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return 0;
}

int copy(void* to, const void* from, int64_t bytes, CudaCopy, CudaStream stream) {
  return enqueue(stream, [=] { std::memmove(to, from, static_cast<size_t>(bytes)); });
}
int zero(void* to, int64_t bytes, CudaStream stream) {
  return enqueue(stream, [=] { std::memset(to, 0, static_cast<size_t>(bytes)); });
}

}  // namespace

int enqueue(CudaStream stream, std::function<void()> work) {
  stream->queue.push_back(std::move(work));
  ++stream->added;
  return 0;
}

void name_runtime(CudaBackend& table) {
  table.message = cuda::last_message;
  table.device_count = device_count;
  table.device_info = device_info;
  table.select = select;
  table.allocate = allocate;
  table.release = release;
  table.allocate_pinned = allocate;
  table.release_pinned = release;
  table.stream_create = stream_create;
  table.stream_destroy = stream_destroy;
  table.stream_synchronize = stream_synchronize;
  table.event_create = event_create;
  table.event_destroy = event_destroy;
  table.event_record = event_record;
  table.event_wait = event_wait;
  table.event_synchronize = event_synchronize;
  table.event_query = event_query;
  table.event_elapsed = event_elapsed;
  table.copy = copy;
  table.zero = zero;
}

}  // namespace emulation
}  // namespace farsight
