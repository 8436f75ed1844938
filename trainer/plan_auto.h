// SPDX-License-Identifier: Apache-2.0
// What parallel.tensor, ring, ulysses and zero = "auto" mean on a number of ranks: the planner's best layout among
// those that the other keys leave open. A pure function, so that all ranks decide alike.
#pragma once

#include <cstdint>

#include "parallel/comm.h"
#include "trainer/calibration.h"
#include "trainer/config.h"

namespace farsight {

// `config` with numbers in place of "auto"; itself where nothing is. memory_limit: bytes of a rank, 0 = none.
// Throws Error{config} with the reason when no layout fits.
Config choose_layout(const Config& config, int64_t ranks, int64_t vocab, int64_t memory_limit,
                     const Calibration& calibration, int64_t ranks_per_node);

// The same for a job: the memory is what the fullest node has left, shared out to its ranks. Collective. vocab: known
// on rank 0 is enough.
Config choose_layout(const Config& config, Communicator& world, int64_t vocab);

}  // namespace farsight
