// SPDX-License-Identifier: Apache-2.0
// Groups of ranks through NCCL 2.27 or later; what came with a later version is not called. Communicators are
// non-blocking: a call that has to wait for another rank is polled here, so that a rank that never comes is an error
// with a text and no hang.
#include "kernels/cuda/collectives_cuda.h"

#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/status_cuda.h"

namespace farsight {

struct CudaRanksTag {
  ncclComm_t comm = nullptr;
  int rank = 0, size = 0;
  std::chrono::milliseconds patience{0};
};

namespace cuda {
namespace {

static_assert(sizeof(CudaRanksId) == sizeof(ncclUniqueId));

cudaStream_t native(CudaStream stream) { return reinterpret_cast<cudaStream_t>(stream); }

int report_nccl(const char* what, ncclResult_t result, ncclComm_t comm) {
  if (result == ncclSuccess) return 0;
  const std::string why = std::string(ncclGetErrorString(result)) + " (" + ncclGetLastError(comm) + ")";
  return failed(static_cast<int>(result), what, why.c_str());
}

// Waits until the communicator has taken in what was called; `result` is what the call returned.
int settle(const CudaRanksTag& ranks, const char* what, ncclResult_t result) {
  const auto end = std::chrono::steady_clock::now() + ranks.patience;
  for (int polls = 0; result == ncclInProgress; ++polls) {
    const ncclResult_t asked = ncclCommGetAsyncError(ranks.comm, &result);
    if (asked != ncclSuccess) return report_nccl(what, asked, ranks.comm);
    if (result == ncclInProgress && std::chrono::steady_clock::now() > end) {
      return failed(ncclInProgress, what, "not all ranks of the group have come in time");
    }
    if (polls > 1000) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return report_nccl(what, result, ranks.comm);
}

int size_in_bytes(DType type) { return type == DType::f64 ? 8 : type == DType::f32 ? 4 : 2; }

ncclDataType_t native(DType type) {
  return type == DType::f64 ? ncclFloat64 : type == DType::f32 ? ncclFloat32 : ncclBfloat16;
}
ncclRedOp_t native(CudaReduceOp reduction) {
  return reduction == CudaReduceOp::sum ? ncclSum : reduction == CudaReduceOp::max ? ncclMax : ncclMin;
}
int check_type(const char* what, DType type) {
  const bool known = type == DType::f32 || type == DType::bf16 || type == DType::f64;
  return known ? 0 : failed(ncclInvalidArgument, what, "only f32, bf16 and f64 can be reduced");
}

// The calls of body() as one: it returns the first that failed.
template <class Body>
ncclResult_t grouped(const Body& body) {
  const ncclResult_t started = ncclGroupStart();
  if (started != ncclSuccess) return started;
  const ncclResult_t called = body(), ended = ncclGroupEnd();
  return called == ncclSuccess || called == ncclInProgress ? ended : called;
}

bool all_equal(const int64_t* counts, int size) {
  return std::all_of(counts, counts + size, [first = counts[0]](int64_t n) { return n == first; });
}

int ranks_version(int32_t* version) { return report_nccl("NCCL's version", ncclGetVersion(version), nullptr); }

int ranks_id(CudaRanksId* id) {
  ncclUniqueId made;
  const int status = report_nccl("the id of a group", ncclGetUniqueId(&made), nullptr);
  if (status == 0) std::memcpy(id->bytes, made.internal, sizeof(id->bytes));
  return status;
}

int ranks_abort(CudaRanks ranks) {
  const int status = report_nccl("aborting a group", ncclCommAbort(ranks->comm), nullptr);
  delete ranks;
  return status;
}

int ranks_create(const CudaRanksId* id, int32_t rank, int32_t size, const CudaRanksOptions* options, CudaRanks* ranks) {
  *ranks = nullptr;
  ncclUniqueId native_id;
  std::memcpy(native_id.internal, id->bytes, sizeof(id->bytes));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.splitShare = 1;  // parts inherit these settings and use the connections that are there
  if (options->most_blocks > 0) config.maxCTAs = options->most_blocks;
  auto* made = new CudaRanksTag{nullptr, rank, size, std::chrono::milliseconds(options->patience_ms)};
  const ncclResult_t result = ncclCommInitRankConfig(&made->comm, size, native_id, rank, &config);
  if (int status = settle(*made, "making a group", result)) {
    if (made->comm != nullptr) ncclCommAbort(made->comm);
    delete made;
    return status;
  }
  *ranks = made;
  return 0;
}

int ranks_split(CudaRanks ranks, int32_t colour, int32_t key, CudaRanks* part) {
  *part = nullptr;
  const bool member = colour >= 0;
  auto* made = new CudaRanksTag{nullptr, 0, 0, ranks->patience};
  const ncclResult_t result =
      ncclCommSplit(ranks->comm, member ? colour : NCCL_SPLIT_NOCOLOR, key, &made->comm, nullptr);
  // Not deleted when that fails: a thread of the library may still write to made->comm.
  if (int status = settle(*ranks, "dividing a group", result)) return status;
  if (!member) {
    delete made;
    return 0;
  }
  if (int status = settle(*made, "dividing a group", ncclInProgress)) return status;
  if (int status = report_nccl("rank", ncclCommUserRank(made->comm, &made->rank), made->comm)) return status;
  if (int status = report_nccl("ranks", ncclCommCount(made->comm, &made->size), made->comm)) return status;
  *part = made;
  return 0;
}

int ranks_destroy(CudaRanks ranks) {
  int status = settle(*ranks, "leaving a group", ncclCommFinalize(ranks->comm));
  if (status != 0) {
    ncclCommAbort(ranks->comm);
  } else {
    status = report_nccl("leaving a group", ncclCommDestroy(ranks->comm), nullptr);
  }
  delete ranks;
  return status;
}

int ranks_error(CudaRanks ranks) {
  ncclResult_t state = ncclSuccess;
  if (int status = report_nccl("state of a group", ncclCommGetAsyncError(ranks->comm, &state), ranks->comm)) {
    return status;
  }
  return state == ncclInProgress ? 0 : report_nccl("a group", state, ranks->comm);
}

int all_reduce(const CudaAllReduce* a, CudaStream stream) {
  if (int status = check_type("all_reduce", a->type)) return status;
  if (a->count == 0) return 0;
  return settle(*a->ranks, "all_reduce",
                ncclAllReduce(a->data, a->data, static_cast<size_t>(a->count), native(a->type), native(a->op),
                              a->ranks->comm, native(stream)));
}

ncclResult_t reduce_pieces(const CudaReduceScatter& a, CudaStream stream) {
  const auto* piece = static_cast<const char*>(a.data);
  for (int root = 0; root < a.ranks->size; ++root) {
    const auto count = static_cast<size_t>(a.counts[root]);
    const ncclResult_t result = count == 0
                                    ? ncclSuccess
                                    : ncclReduce(piece, root == a.ranks->rank ? a.mine : nullptr, count, native(a.type),
                                                 native(a.op), root, a.ranks->comm, native(stream));
    if (result != ncclSuccess && result != ncclInProgress) return result;
    piece += count * static_cast<size_t>(size_in_bytes(a.type));
  }
  return ncclSuccess;
}

int reduce_scatter(const CudaReduceScatter* a, CudaStream stream) {
  if (int status = check_type("reduce_scatter", a->type)) return status;
  const bool equal = all_equal(a->counts, a->ranks->size);
  if (equal && a->counts[0] == 0) return 0;
  const ncclResult_t result = equal ? ncclReduceScatter(a->data, a->mine, static_cast<size_t>(a->counts[0]),
                                                        native(a->type), native(a->op), a->ranks->comm, native(stream))
                                    : grouped([&] { return reduce_pieces(*a, stream); });
  return settle(*a->ranks, "reduce_scatter", result);
}

ncclResult_t broadcast_pieces(const CudaAllGather& a, CudaStream stream) {
  auto* piece = static_cast<char*>(a.all);
  for (int root = 0; root < a.ranks->size; ++root) {
    const auto bytes = static_cast<size_t>(a.bytes[root]);
    const ncclResult_t result = bytes == 0 ? ncclSuccess
                                           : ncclBroadcast(root == a.ranks->rank ? a.mine : piece, piece, bytes,
                                                           ncclUint8, root, a.ranks->comm, native(stream));
    if (result != ncclSuccess && result != ncclInProgress) return result;
    piece += bytes;
  }
  return ncclSuccess;
}

int all_gather(const CudaAllGather* a, CudaStream stream) {
  const bool equal = all_equal(a->bytes, a->ranks->size);
  if (equal && a->bytes[0] == 0) return 0;
  const ncclResult_t result = equal ? ncclAllGather(a->mine, a->all, static_cast<size_t>(a->bytes[0]), ncclUint8,
                                                    a->ranks->comm, native(stream))
                                    : grouped([&] { return broadcast_pieces(*a, stream); });
  return settle(*a->ranks, "all_gather", result);
}

ncclResult_t post(const CudaTransfers& a, CudaStream stream) {
  for (int64_t i = 0; i < a.count; ++i) {
    const CudaTransfer& t = a.transfers[i];
    const auto bytes = static_cast<size_t>(t.bytes);
    if (bytes == 0) continue;
    const ncclResult_t result = t.sending != 0
                                    ? ncclSend(t.data, bytes, ncclUint8, t.peer, a.ranks->comm, native(stream))
                                    : ncclRecv(t.data, bytes, ncclUint8, t.peer, a.ranks->comm, native(stream));
    if (result != ncclSuccess && result != ncclInProgress) return result;
  }
  return ncclSuccess;
}

int transfer(const CudaTransfers* a, CudaStream stream) {
  const bool empty =
      std::all_of(a->transfers, a->transfers + a->count, [](const CudaTransfer& t) { return t.bytes == 0; });
  return empty ? 0 : settle(*a->ranks, "messages", grouped([&] { return post(*a, stream); }));
}

}  // namespace

void name_collectives(CudaBackend& table) {
  table.ranks_version = ranks_version;
  table.ranks_id = ranks_id;
  table.ranks_create = ranks_create;
  table.ranks_split = ranks_split;
  table.ranks_destroy = ranks_destroy;
  table.ranks_abort = ranks_abort;
  table.ranks_error = ranks_error;
  table.all_reduce = all_reduce;
  table.reduce_scatter = reduce_scatter;
  table.all_gather = all_gather;
  table.transfer = transfer;
}

}  // namespace cuda
}  // namespace farsight
