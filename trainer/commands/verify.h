// SPDX-License-Identifier: Apache-2.0
// farsight verify CONFIG [--ranks=N] [--steps=N] [--sequence=N] [--directions=N] [--own-layout] [--json]
#pragma once

#include <iosfwd>
#include <string>

#include "trainer/command_line.h"

namespace farsight {

// Needs no MPI. Prints the report to `out` whatever it says; then Error{internal} (70) when numbers do not agree.
int run_verify(const CommandArguments& arguments, std::ostream& out, std::ostream& err);

// Prints what was found; 0, or Error{internal} with the verdict.
struct LayoutVerdict;
int conclude_verify(const LayoutVerdict& report, const std::string& config_path, bool json, std::ostream& out);

}  // namespace farsight
