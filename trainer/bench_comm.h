// SPDX-License-Identifier: Apache-2.0
// `mpirun ... farsight bench comm`: alpha and beta of every pattern of communication, for groups of 2, 4 ... ranks and
// all of them, in the form the planner calculates with.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <vector>

#include "parallel/comm.h"
#include "trainer/calibration.h"

namespace farsight {

struct BenchCommOptions {
  int64_t largest = int64_t{8} << 20;  // bytes of the largest call
  int repeats = 5;
};

// Collective; needs two ranks at least. Groups of neighbouring ranks measure at the same time, as they would work. The
// same result on all ranks. ranks_per_node: groups that reach further count as across nodes; 0 = one node.
std::vector<CommRate> measure_comm(Communicator& world, const BenchCommOptions& options, int64_t ranks_per_node);

// Starts MPI, measures, prints on rank 0; returns the exit code. Throws Error{usage} for one rank.
int bench_comm(const BenchCommOptions& options, bool json, std::ostream& out, std::ostream& err);

}  // namespace farsight
