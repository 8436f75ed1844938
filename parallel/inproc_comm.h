// SPDX-License-Identifier: Apache-2.0
// Threads of this process as ranks: the whole parallel layer runs in a unit test, under sanitizers, and in `verify`
// without a launcher. Collectives are the same code as under MPI and give the same bits.
#pragma once

#include <functional>

#include "parallel/comm.h"

namespace farsight {

// Runs body(world) on `ranks` threads and returns when all have ended. Each thread computes with `threads_per_rank`
// threads. When a rank throws, every other rank's pending and later communication throws too, and the error that came
// first is rethrown here; abort(code) counts as an error. Nothing is left running.
void run_in_process(int ranks, const std::function<void(Communicator& world)>& body, const CommOptions& options = {},
                    int threads_per_rank = 1);

}  // namespace farsight
