// SPDX-License-Identifier: Apache-2.0
// `farsight data ...`: prepares and checks HDF5 datasets. No MPI, no device.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace farsight {

// args: what follows `farsight data`, e.g. {"text", "a.txt", "-o", "c.h5"}. Returns 0; throws Error with the documented
// kind otherwise (usage for an unknown command or option). Results go to `out`, progress to `err`.
int run_data_command(std::vector<std::string> args, std::ostream& out, std::ostream& err);

}  // namespace farsight
