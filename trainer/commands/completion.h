// SPDX-License-Identifier: Apache-2.0
// farsight completion bash: a completion script made from the tables of commands and keys.
//   source <(farsight completion bash)
#pragma once

#include <iosfwd>

#include "trainer/command_line.h"

namespace farsight {

int run_completion(const CommandArguments& arguments, std::ostream& out, std::ostream& err);

}  // namespace farsight
