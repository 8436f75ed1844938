// SPDX-License-Identifier: Apache-2.0
// `farsight train CONFIG [--section.key=value ...] [--resume=never|auto|PATH]`
#pragma once

#include <iosfwd>

#include "trainer/command_line.h"

namespace farsight {

// Starts MPI; out is used on rank 0. Returns 0, 85 or 143; throws Error.
int run_train(const CommandArguments& arguments, std::ostream& out, std::ostream& err);

}  // namespace farsight
