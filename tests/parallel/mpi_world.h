// SPDX-License-Identifier: Apache-2.0
// The world of a test that runs under mpirun.
#pragma once

#include "parallel/comm.h"

namespace farsight::testing {

Communicator& mpi_world();

}  // namespace farsight::testing
