// SPDX-License-Identifier: Apache-2.0
// farsight config init | show CONFIG | explain [KEY] | schema
#pragma once

#include <iosfwd>

#include "trainer/command_line.h"

namespace farsight {

int run_config(const CommandArguments& arguments, std::ostream& out, std::ostream& err);

}  // namespace farsight
