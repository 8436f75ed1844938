// SPDX-License-Identifier: Apache-2.0
// The frame of every command that computes on several ranks: MPI is started, errors that all ranks share end the
// program in order with rank 0 printing once, any other error aborts the job.
#pragma once

#include <functional>
#include <iosfwd>

#include "parallel/comm.h"

namespace farsight {

// True in the process that will probably be rank 0, by the launcher's environment; true without a launcher. A hint for
// work that must be done before MPI starts.
bool expected_root();

// Runs before() (errors are kept), starts MPI, agrees on those errors, runs body(world) and returns its exit code.
// Throws Error on rank 0 and ReportedError elsewhere for errors that all ranks agree on.
int run_parallel(std::ostream& err, const std::function<void()>& before,
                 const std::function<int(Communicator& world)>& body);

}  // namespace farsight
