// SPDX-License-Identifier: Apache-2.0
// What libfarsight_cuda.so offers to the program: one table of functions, looked up by the name farsight_cuda_backend.
// The program itself links no CUDA library, so one build runs with and without a driver.
//
// Every function returns 0, or another value with a text in message() of the same thread; none throws. A stream orders
// what is enqueued on it; functions with a stream return before the device has done the work. Pointers inside arguments
// are device pointers unless their comment says host. Sizes are elements and strides elements between rows.
// A thread calls select() once before anything else that concerns a device.
#pragma once

#include <cstdint>

#include "kernels/attention/block_cuda.h"
#include "kernels/attention/sdpa_cuda.h"
#include "kernels/batch_norm_cuda.h"
#include "kernels/column_sums_cuda.h"
#include "kernels/cross_entropy_cuda.h"
#include "kernels/cuda/collectives_cuda.h"
#include "kernels/dense_attention_cuda.h"
#include "kernels/dropout_cuda.h"
#include "kernels/embedding_cuda.h"
#include "kernels/forecast_loss_cuda.h"
#include "kernels/gelu_cuda.h"
#include "kernels/instance_norm_cuda.h"
#include "kernels/matmul_cuda.h"
#include "kernels/moving_average_cuda.h"
#include "kernels/norm_cuda.h"
#include "kernels/optimizer_cuda.h"
#include "kernels/patches_cuda.h"
#include "kernels/rope_cuda.h"
#include "kernels/rows_cuda.h"
#include "kernels/scaled_sum_cuda.h"
#include "kernels/swiglu_cuda.h"
#include "kernels/totals_cuda.h"

namespace farsight {

// Changes whenever a structure or function below changes.
inline constexpr uint32_t kCudaAbi = 7;

using CudaStream = struct CudaStreamTag*;
using CudaEvent = struct CudaEventTag*;
using CudaGraph = struct CudaGraphTag*;

struct CudaDeviceInfo {
  char name[128];
  char bus_id[32];  // PCI, tells devices of one host apart
  int32_t multiprocessors;
  int32_t capability;  // 10 * major + minor
  int64_t total_bytes, free_bytes;
  int32_t shared_chunks;  // whether many tensors may share one allocation; not in emulation, where ends are watched
};

enum class CudaCopy : int32_t { to_device, to_host, on_device };

template <class Arguments>
using CudaOperation = int (*)(const Arguments* arguments, CudaStream stream);

struct CudaBackend {
  uint32_t abi;    // kCudaAbi
  uint32_t bytes;  // of this structure
  const char* (*message)();

  int (*device_count)(int32_t* count);
  int (*device_info)(int32_t device, CudaDeviceInfo* info);
  int (*select)(int32_t device);

  int (*allocate)(int64_t bytes, void** pointer);
  int (*release)(void* pointer);
  int (*allocate_pinned)(int64_t bytes, void** host_pointer);
  int (*release_pinned)(void* host_pointer);

  int (*stream_create)(int32_t high_priority, CudaStream* stream);
  int (*stream_destroy)(CudaStream stream);
  int (*stream_synchronize)(CudaStream stream);
  int (*event_create)(CudaEvent* event);
  int (*event_destroy)(CudaEvent event);
  int (*event_record)(CudaEvent event, CudaStream stream);
  int (*event_wait)(CudaEvent event, CudaStream stream);  // later work of the stream waits for the event
  int (*event_synchronize)(CudaEvent event);
  int (*event_query)(CudaEvent event, int32_t* finished);
  int (*event_elapsed)(CudaEvent from, CudaEvent to, float* milliseconds);  // both finished

  int (*copy)(void* to, const void* from, int64_t bytes, CudaCopy direction, CudaStream stream);
  int (*zero)(void* to, int64_t bytes, CudaStream stream);

  // From record_begin to record_end the work of the stream is kept and not done; waiting for the stream is an error.
  // record_end makes it *graph (null: a new one, else the graph gets the new arguments, or is made anew where its
  // operations are others: *made != 0); without a graph what was recorded is dropped. A launch does the work of the
  // last record_end; changing the graph does not change launches that are under way.
  int (*record_begin)(CudaStream stream);
  int (*record_end)(CudaStream stream, CudaGraph* graph, int32_t* made);
  int (*graph_launch)(CudaGraph graph, CudaStream stream);
  int (*graph_destroy)(CudaGraph graph);

  // Groups of ranks. The version and an id are to be had without a driver.
  int (*ranks_version)(int32_t* version);  // of NCCL: 22809 is 2.28.9
  int (*ranks_id)(CudaRanksId* id);
  int (*ranks_create)(const CudaRanksId* id, int32_t rank, int32_t size, const CudaRanksOptions* options,
                      CudaRanks* ranks);
  // The ranks of one colour, ordered by key; a colour below 0: *part is null. Collective over `ranks`.
  int (*ranks_split)(CudaRanks ranks, int32_t colour, int32_t key, CudaRanks* part);
  int (*ranks_destroy)(CudaRanks ranks);  // waits for what is under way; the other ranks do the same
  int (*ranks_abort)(CudaRanks ranks);    // ends what is under way, finished or not; alone
  int (*ranks_error)(CudaRanks ranks);    // 0, or what has gone wrong with the group since; does not wait
  CudaOperation<CudaAllReduce> all_reduce;
  CudaOperation<CudaReduceScatter> reduce_scatter;
  CudaOperation<CudaAllGather> all_gather;
  CudaOperation<CudaTransfers> transfer;

  CudaOperation<CudaBatchNormBlocks> batch_norm_blocks;
  CudaOperation<CudaBatchNormJoin> batch_norm_join;
  CudaOperation<CudaBatchNormForward> batch_norm_forward;
  CudaOperation<CudaBatchNormSums> batch_norm_sums;
  CudaOperation<CudaBatchNormBackward> batch_norm_backward;
  CudaOperation<CudaAddScaled> add_scaled;
  CudaOperation<CudaColumnSums> column_sums;
  CudaOperation<CudaMatmul> matmul;
  // Whether the library has this product; nothing is computed, and addresses count as far as they are aligned.
  int (*matmul_available)(const CudaMatmul* arguments, int32_t* available);
  CudaOperation<CudaAdamW> adamw;
  CudaOperation<CudaSgd> sgd;
  CudaOperation<CudaSum> add_sum;
  CudaOperation<CudaAddTotal> add_total;
  CudaOperation<CudaUpdateGate> update_gate;
  CudaOperation<CudaGatherRows> gather_rows;
  CudaOperation<CudaScatterRows> scatter_rows;
  CudaOperation<CudaLogitMaxima> logit_maxima;
  CudaOperation<CudaLogitSums> logit_sums;
  CudaOperation<CudaLogitLosses> logit_losses;
  CudaOperation<CudaLogitGradients> logit_gradients;
  CudaOperation<CudaAttentionBounds> attention_bounds;
  CudaOperation<CudaAttentionForward> attention_forward;
  CudaOperation<CudaAttentionFinish> attention_finish;
  CudaOperation<CudaAttentionMerge> attention_merge;
  CudaOperation<CudaAttentionRowTerms> attention_row_terms;
  CudaOperation<CudaAttentionBackward> attention_backward;
  int (*sdpa_library)(SdpaLibrary* library);  // for sdpa_refusal; of the selected device
  CudaOperation<CudaSdpaPlan> sdpa_plan;
  CudaOperation<CudaSdpaForward> sdpa_forward;
  CudaOperation<CudaSdpaBackward> sdpa_backward;
  CudaOperation<CudaRowsCopy> copy_rows;
  CudaOperation<CudaFill> fill;
  CudaOperation<CudaDenseAttention> dense_attention_forward;
  CudaOperation<CudaDenseAttentionBackward> dense_attention_backward;
  CudaOperation<CudaDropoutRows> dropout_rows;
  CudaOperation<CudaForecastLoss> forecast_loss;
  CudaOperation<CudaScaledSum> scaled_sum;
  CudaOperation<CudaGeluForward> gelu_forward;
  CudaOperation<CudaGeluBackward> gelu_backward;
  CudaOperation<CudaInstanceNormForward> instance_norm_forward;
  CudaOperation<CudaInstanceNormBackward> instance_norm_backward;
  CudaOperation<CudaMovingAverage> moving_average;
  CudaOperation<CudaNormForward> norm_forward;
  CudaOperation<CudaNormBackward> norm_backward;
  CudaOperation<CudaPatchesForward> patches_forward;
  CudaOperation<CudaPatchesBackward> patches_backward;
  CudaOperation<CudaRopeTable> rope_table;
  CudaOperation<CudaRopeRows> rope_rows;
  CudaOperation<CudaSwigluForward> swiglu_forward;
  CudaOperation<CudaSwigluBackward> swiglu_backward;
};

using CudaBackendEntry = const CudaBackend* (*)(uint32_t abi);

}  // namespace farsight
