// SPDX-License-Identifier: Apache-2.0
// `farsight bench attention [--tokens=N,N...] [--heads=N] [--width=N] [--forward]`
#pragma once

#include <iosfwd>

#include "trainer/command_line.h"

namespace farsight {

int run_bench(const CommandArguments& arguments, std::ostream& out, std::ostream& err);

}  // namespace farsight
