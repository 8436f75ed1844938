// SPDX-License-Identifier: Apache-2.0
// What this build is.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace farsight {

// "0.1.0"
const char* version();
// Abbreviated commit, "-dirty" with uncommitted changes; "unknown" for sources without version control.
const char* version_commit();
// Compiler and build type, then every library with its version, in order of display.
std::vector<std::pair<std::string, std::string>> build_facts();
// Version, commit, compiler and libraries, one per line (farsight --version).
std::string version_text();

}  // namespace farsight
