// SPDX-License-Identifier: Apache-2.0
// What no single key can decide: "auto" values that follow from others, and combinations that cannot work.
#pragma once

#include <set>
#include <string>

#include "trainer/config_reader.h"

namespace farsight {

// Resolves and checks `config`; problems are placed at the first of the keys concerned that the user has set, or at
// `file_name`. Checks that involve a key in `bad` (already reported) are skipped.
void finish_config(Config& config, const std::string& file_name, const std::set<std::string>& bad,
                   ConfigProblems& problems);

// Where the first of these keys was set; `otherwise` when all are defaults.
std::string first_origin(const Config& config, const std::vector<std::string>& keys, const std::string& otherwise);

// "1, 2, 3, 6"
std::string divisors_text(int64_t number);

}  // namespace farsight
