// SPDX-License-Identifier: Apache-2.0
#include "tests/emulation/streams.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace farsight {

using Pieces = std::vector<std::function<void()>>;

struct CudaStreamTag {
  std::shared_ptr<emulation::WorkQueue> queue = std::make_shared<emulation::WorkQueue>();
  std::optional<Pieces> recording;
};

struct CudaGraphTag {
  std::shared_ptr<const Pieces> pieces;  // launches keep the ones they began with
};

// The last record of an event.
struct CudaEventTag {
  bool recorded = false;  // in a stream that was recorded: belongs to its graph
  using Clock = std::chrono::steady_clock;
  std::shared_ptr<emulation::WorkQueue> queue;  // null: never recorded
  uint64_t position = 0;                        // work that precedes it
  std::shared_ptr<Clock::time_point> time;      // when the device got there
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
  if (stream->recording) return failed(1, "stream", "the host waits for a stream that is being recorded");
  return guarded("stream", [&] { wait_for(stream->queue, stream->queue->added()); });
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
  event->recorded = stream->recording.has_value();
  if (event->recorded) return 0;
  event->queue = stream->queue;
  event->time = std::make_shared<CudaEventTag::Clock::time_point>();
  event->position = stream->queue->add([time = event->time] {
    *time = CudaEventTag::Clock::now();
    return true;
  });
  return 0;
}
int no_graph_event(CudaEvent event) {
  return event->recorded ? failed(1, "event", "it was marked in a stream that was being recorded") : 0;
}
int event_wait(CudaEvent event, CudaStream stream) {
  if (stream->recording || event->recorded) return failed(1, "event", "only one stream can be recorded here");
  if (event->queue == nullptr || event->queue == stream->queue) return 0;
  stream->queue->add([from = event->queue, position = event->position] {
    const bool done = from->advance(position);
    from->rethrow();
    return done;
  });
  return 0;
}
int event_synchronize(CudaEvent event) {
  if (int status = no_graph_event(event)) return status;
  if (event->queue == nullptr) return 0;
  return guarded("event", [&] { wait_for(event->queue, event->position); });
}
// Somebody who polls would wait for ever if nothing ran.
int event_query(CudaEvent event, int32_t* finished) {
  *finished = 1;
  if (int status = no_graph_event(event)) return status;
  if (event->queue == nullptr) return 0;
  return guarded("event", [&] {
    if (try_for(event->queue, event->position)) return;
    *finished = 0;
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  });
}
int event_elapsed(CudaEvent from, CudaEvent to, float* milliseconds) {
  *milliseconds = std::chrono::duration<float, std::milli>(*to->time - *from->time).count();
  return 0;
}

int copy(void* to, const void* from, int64_t bytes, CudaCopy, CudaStream stream) {
  return enqueue(stream, [=] { std::memmove(to, from, static_cast<size_t>(bytes)); });
}
int zero(void* to, int64_t bytes, CudaStream stream) {
  return enqueue(stream, [=] { std::memset(to, 0, static_cast<size_t>(bytes)); });
}

int record_begin(CudaStream stream) {
  if (stream->recording) return failed(1, "recording", "it has begun already");
  stream->recording.emplace();
  return 0;
}
// Graphs with as many pieces of work count as the same graph.
int record_end(CudaStream stream, CudaGraph* graph, int32_t* made) {
  if (!stream->recording) return failed(1, "recording", "it has not begun");
  auto pieces = std::make_shared<const Pieces>(std::move(*stream->recording));
  stream->recording.reset();
  if (graph == nullptr) return 0;
  *made = *graph == nullptr || (*graph)->pieces->size() != pieces->size() ? 1 : 0;
  if (*graph == nullptr) *graph = new CudaGraphTag;
  (*graph)->pieces = std::move(pieces);
  return 0;
}
int graph_launch(CudaGraph graph, CudaStream stream) {
  return enqueue(stream, [pieces = graph->pieces] {
    for (const auto& piece : *pieces) piece();
  });
}
int graph_destroy(CudaGraph graph) {
  delete graph;
  return 0;
}

}  // namespace

int enqueue(CudaStream stream, std::function<void()> work) {
  if (stream->recording) {
    stream->recording->push_back(std::move(work));
    return 0;
  }
  stream->queue->add([work = std::move(work)] {
    work();
    return true;
  });
  return 0;
}

int enqueue_shared(CudaStream stream, Work work) {
  if (stream->recording) return failed(1, "recording", "transfers between ranks cannot be recorded here");
  add_shared(stream->queue, std::move(work));
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
  table.record_begin = record_begin;
  table.record_end = record_end;
  table.graph_launch = graph_launch;
  table.graph_destroy = graph_destroy;
}

}  // namespace emulation
}  // namespace farsight
