// SPDX-License-Identifier: Apache-2.0
// farsight plan CONFIG [--ranks=N] [--memory=80GiB] [--json]
#pragma once

#include <iosfwd>

#include "trainer/command_line.h"

namespace farsight {

int run_plan(const CommandArguments& arguments, std::ostream& out, std::ostream& err);

}  // namespace farsight
