// SPDX-License-Identifier: Apache-2.0
// farsight checkpoint list|inspect|verify: looks at saved checkpoints; needs neither MPI nor the model.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace farsight {

// args without "checkpoint" itself. Returns the exit code (65 when verify finds damage); throws Error for the rest.
int run_checkpoint_command(std::vector<std::string> args, std::ostream& out, std::ostream& err);

}  // namespace farsight
