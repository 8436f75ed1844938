// SPDX-License-Identifier: Apache-2.0
// The shared area of ranks that are processes of one node.
#pragma once

#include <memory>
#include <string>

#include <mpi.h>

#include "parallel/comm.h"
#include "parallel/shared_area.h"

namespace farsight {

struct MpiArea {
  std::unique_ptr<SharedArea> area;  // null on all ranks, or on none
  std::string description;           // "shared memory, ..." or "messages: " and why; the same on all ranks
  // Ranks may read each other's memory (process_vm_readv), which MPI libraries use for long messages.
  bool one_copy = false;
};

// Collective. The ranks share memory if all of them are on one node and all can map it, and options.window_bytes > 0.
// `threads`: with which each rank copies and adds, the same on all ranks.
MpiArea make_mpi_area(MPI_Comm comm, const CommOptions& options, int threads = 1);

}  // namespace farsight
