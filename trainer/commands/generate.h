// SPDX-License-Identifier: Apache-2.0
// `farsight generate RUN --prompt=TEXT [--tokens --temperature --top-k --top-p --seed]`
#pragma once

#include <iosfwd>

#include "trainer/command_line.h"

namespace farsight {

// Continues a prompt with a trained model, on this process alone; text appears as it is written. Throws Error.
int run_generate(const CommandArguments& arguments, std::ostream& out, std::ostream& err);

}  // namespace farsight
