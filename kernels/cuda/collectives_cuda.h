// SPDX-License-Identifier: Apache-2.0
// Messages between ranks that each have a device of their own: NCCL behind the plugin's table. A CudaRanks is one
// rank's membership in a group; it belongs to the device that was selected when it was made and to one thread.
//
// Making and dividing a group are collective and wait for the other ranks, at most patience_ms; so does the first use
// of a connection. After that all operations only enqueue work on a stream. All ranks of a group call the same
// operations with the same counts in the same order. Counts and bytes may be 0; every rank then leaves the same piece
// out. Lists are host memory and may change as soon as the call returns; data are device pointers.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

using CudaRanks = struct CudaRanksTag*;

// Made by one rank, handed to all by other means.
struct CudaRanksId {
  char bytes[128];
};

struct CudaRanksOptions {
  int32_t most_blocks;  // of the device that one operation occupies; 0: the library's choice
  int32_t patience_ms;
};

enum class CudaReduceOp : int32_t { sum, max, min };

// In place; f32, bf16 or f64. The order of a sum is the library's, fixed for a group, a count and a topology; partial
// sums in bf16 are rounded to bf16 at every hop. max and min pass over a NaN where another rank has a number.
struct CudaAllReduce {
  CudaRanks ranks;
  DType type;
  CudaReduceOp op;
  int64_t count;
  void* data;
};

// Piece r of every rank's data, counts[r] elements, is reduced into `mine` of rank r, which may be that piece of data.
struct CudaReduceScatter {
  CudaRanks ranks;
  DType type;
  CudaReduceOp op;
  const int64_t* counts;  // of every rank
  const void* data;
  void* mine;
};

// `mine` of rank r, bytes[r] long, becomes piece r of everybody's `all`; it may lie there already.
struct CudaAllGather {
  CudaRanks ranks;
  const int64_t* bytes;  // of every rank
  const void* mine;
  void* all;
};

// Messages that travel together: none waits for another. Those between two ranks arrive in the order of the list; the
// own rank may be a peer.
struct CudaTransfer {
  void* data;
  int64_t bytes;
  int32_t peer;
  int32_t sending;  // 0: receiving
};
struct CudaTransfers {
  CudaRanks ranks;
  int64_t count;
  const CudaTransfer* transfers;
};

}  // namespace farsight
