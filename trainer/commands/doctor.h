// SPDX-License-Identifier: Apache-2.0
// farsight doctor [--json], alone or under mpirun
#pragma once

#include <iosfwd>

#include "trainer/command_line.h"

namespace farsight {

// Starts MPI; prints on rank 0. Returns 0, or 69 when something required is unavailable.
int run_doctor(const CommandArguments& arguments, std::ostream& out, std::ostream& err);

}  // namespace farsight
