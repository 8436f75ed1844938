// SPDX-License-Identifier: Apache-2.0
// NCCL as the back end for tensors of a device, one rank on each device; everything in host memory goes on through the
// communicator that it is built on (MPI, or threads in tests).
//
// The tensor operations of Communicator return before they have run: on the device they come behind the arithmetic that
// was started before them, and what is started after wait() comes behind them. No host waits. Sums are formed in an
// order that NCCL chooses, not in rank order: the same bits on every rank and in every run of the same layout on the
// same machines, other bits than through host memory. bf16 sums are rounded to bf16 at every hop. max and min pass over
// a NaN where another rank has a number.
//
// Every communicator has a stream of its own, so all ranks must start the operations of all their communicators in one
// order (comm.h, test()). A failed link or rank ends every later call, and waiting for the device, with
// Error{environment} that names the ranks and the first unfinished operation.
#pragma once

#include <chrono>
#include <memory>

#include "kernels/cuda/device.h"
#include "parallel/comm.h"

namespace farsight {

struct NcclOptions {
  // Blocks of the device that a transfer may take from the arithmetic beside it; 0: NCCL's choice. 16 are what NCCL
  // needs at most for registered buffers on NVLink with a network behind it.
  int32_t most_blocks = 16;
  std::chrono::milliseconds patience{120000};  // for ranks that do not come when a group is made
};

// Collective over `host`. `host` and `device`, the device of this thread's scope, must outlive the communicator and all
// that are split from it. Throws Error{environment} on all ranks alike when NCCL is too old or cannot make the group.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, CudaDevice& device,
                                                     const NcclOptions& options = {});

}  // namespace farsight
