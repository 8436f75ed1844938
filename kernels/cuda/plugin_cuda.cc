// SPDX-License-Identifier: Apache-2.0
// The entry of libfarsight_cuda.so, and the CUDA runtime behind its table.
#include <cuda_runtime.h>

#include <cstdio>
#include <string>

#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/status_cuda.h"

namespace farsight::cuda {
namespace {

thread_local std::string message_text;

cudaStream_t native(CudaStream stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t native(CudaEvent event) { return reinterpret_cast<cudaEvent_t>(event); }

int device_count(int32_t* count) {
  int devices = 0;
  const int status = report("counting devices", cudaGetDeviceCount(&devices));
  *count = devices;
  return status;
}

int device_info(int32_t device, CudaDeviceInfo* info) {
  *info = {};
  cudaDeviceProp properties;
  if (int s = report("device properties", cudaGetDeviceProperties(&properties, device))) return s;
  if (int s = report("PCI bus id", cudaDeviceGetPCIBusId(info->bus_id, sizeof(info->bus_id), device))) return s;
  std::snprintf(info->name, sizeof(info->name), "%.120s", properties.name);
  info->shared_chunks = 1;
  info->multiprocessors = properties.multiProcessorCount;
  info->capability = 10 * properties.major + properties.minor;
  size_t free_bytes = 0, total = 0;
  if (int s = report("selecting a device", cudaSetDevice(device))) return s;
  if (int s = report("free memory", cudaMemGetInfo(&free_bytes, &total))) return s;
  info->total_bytes = static_cast<int64_t>(total);
  info->free_bytes = static_cast<int64_t>(free_bytes);
  return 0;
}

int select(int32_t device) { return report("selecting a device", cudaSetDevice(device)); }

int allocate(int64_t bytes, void** pointer) {
  const auto error = cudaMalloc(pointer, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) cudaGetLastError();  // not sticky: the caller frees its cache and tries again
  return report("device memory", error);
}
int release(void* pointer) { return report("releasing device memory", cudaFree(pointer)); }
int allocate_pinned(int64_t bytes, void** pointer) {
  return report("pinned host memory", cudaHostAlloc(pointer, static_cast<size_t>(bytes), cudaHostAllocDefault));
}
int release_pinned(void* pointer) { return report("releasing pinned memory", cudaFreeHost(pointer)); }

int stream_create(int32_t high_priority, CudaStream* stream) {
  int least = 0, greatest = 0;
  if (int s = report("stream priorities", cudaDeviceGetStreamPriorityRange(&least, &greatest))) return s;
  cudaStream_t created = nullptr;
  const int status = report(
      "a stream", cudaStreamCreateWithPriority(&created, cudaStreamNonBlocking, high_priority != 0 ? greatest : least));
  *stream = reinterpret_cast<CudaStream>(created);
  return status;
}
int stream_destroy(CudaStream stream) { return report("destroying a stream", cudaStreamDestroy(native(stream))); }
int stream_synchronize(CudaStream stream) { return report("the stream", cudaStreamSynchronize(native(stream))); }

int event_create(CudaEvent* event) {
  cudaEvent_t created = nullptr;
  const int status = report("an event", cudaEventCreate(&created));
  *event = reinterpret_cast<CudaEvent>(created);
  return status;
}
int event_destroy(CudaEvent event) { return report("destroying an event", cudaEventDestroy(native(event))); }
int event_record(CudaEvent event, CudaStream stream) {
  return report("recording an event", cudaEventRecord(native(event), native(stream)));
}
int event_wait(CudaEvent event, CudaStream stream) {
  return report("waiting for an event", cudaStreamWaitEvent(native(stream), native(event), 0));
}
int event_synchronize(CudaEvent event) { return report("an event", cudaEventSynchronize(native(event))); }
int event_query(CudaEvent event, int32_t* finished) {
  const auto error = cudaEventQuery(native(event));
  *finished = error == cudaSuccess ? 1 : 0;
  return error == cudaErrorNotReady ? 0 : report("an event", error);
}
int event_elapsed(CudaEvent from, CudaEvent to, float* milliseconds) {
  return report("time between events", cudaEventElapsedTime(milliseconds, native(from), native(to)));
}

int copy(void* to, const void* from, int64_t bytes, CudaCopy direction, CudaStream stream) {
  const cudaMemcpyKind kinds[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice};
  return report("copy", cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kinds[static_cast<int>(direction)],
                                        native(stream)));
}
int zero(void* to, int64_t bytes, CudaStream stream) {
  return report("zero", cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), native(stream)));
}

int record_begin(CudaStream stream) {
  // Relaxed: memory may be reserved and libraries may load kernels while a step is recorded.
  return report("recording", cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeRelaxed));
}

// Puts the recorded operations into the graph; where they are others than before, a new one takes its place.
int put_into(cudaGraph_t recorded, cudaStream_t stream, cudaGraphExec_t& graph, int32_t* made) {
  *made = 0;
  if (graph != nullptr) {
    cudaGraphExecUpdateResultInfo difference{};
    if (cudaGraphExecUpdate(graph, recorded, &difference) == cudaSuccess) return 0;
    cudaGetLastError();
    if (int s = report("a graph", cudaStreamSynchronize(stream))) return s;  // it may still run
    if (int s = report("dropping a graph", cudaGraphExecDestroy(graph))) return s;
    graph = nullptr;
  }
  *made = 1;
  return report("making a graph", cudaGraphInstantiate(&graph, recorded, 0));
}

int record_end(CudaStream stream, CudaGraph* graph, int32_t* made) {
  cudaGraph_t recorded = nullptr;
  if (int s = report("recording", cudaStreamEndCapture(native(stream), &recorded))) {
    cudaGetLastError();
    return s;
  }
  int status = 0;
  if (graph != nullptr) {
    auto executable = reinterpret_cast<cudaGraphExec_t>(*graph);
    status = put_into(recorded, native(stream), executable, made);
    *graph = reinterpret_cast<CudaGraph>(executable);
  }
  cudaGraphDestroy(recorded);
  return status;
}
int graph_launch(CudaGraph graph, CudaStream stream) {
  return report("launching a graph", cudaGraphLaunch(reinterpret_cast<cudaGraphExec_t>(graph), native(stream)));
}
int graph_destroy(CudaGraph graph) {
  return report("dropping a graph", cudaGraphExecDestroy(reinterpret_cast<cudaGraphExec_t>(graph)));
}

CudaBackend make_table() {
  CudaBackend table{};
  table.abi = kCudaAbi;
  table.bytes = sizeof(CudaBackend);
  table.message = last_message;
  table.device_count = device_count;
  table.device_info = device_info;
  table.select = select;
  table.allocate = allocate;
  table.release = release;
  table.allocate_pinned = allocate_pinned;
  table.release_pinned = release_pinned;
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
  name_operations(table);
  name_collectives(table);
  return table;
}

}  // namespace

int failed(int status, const char* what, const char* why) {
  message_text = std::string(what) + ": " + why;
  return status;
}
const char* last_message() { return message_text.c_str(); }

}  // namespace farsight::cuda

extern "C" __attribute__((visibility("default"))) const farsight::CudaBackend* farsight_cuda_backend(uint32_t abi) {
  if (abi != farsight::kCudaAbi) return nullptr;
  static const farsight::CudaBackend table = farsight::cuda::make_table();
  return &table;
}
