// SPDX-License-Identifier: Apache-2.0
// Which layouts a configuration is verified in, and the smallest batch in which they can be compared.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/config.h"

namespace farsight {

struct VerifyLayout {
  std::string name;  // "ring 2, zigzag"
  int64_t ranks = 1;
  bool own = false;  // the one that the configuration says
  Config config;
  std::string refusal;  // why it cannot be; empty = can
};

// The fewest ranks that the extents of the configuration fit on: their product, with data = "auto" as the least number
// that is legal (1 if none is).
int64_t least_ranks(const Config& config);

// The configuration with few samples: what the check means does not depend on how many. Keeps several passes per step
// where there are several, and lets up to `ranks` data ranks share the batch. `sequence` > 0 shortens the samples too.
// What was changed is said in `notes`. Throws Error{config} where the configuration does not fit `ranks` ranks.
Config shrink(const Config& config, int64_t ranks, int64_t sequence, std::vector<std::string>& notes);

// The same on one rank: what every layout is compared with.
Config one_rank(const Config& config);

// First the configuration's own layout, then each axis alone with as many of `ranks` ranks as it can take. A layout
// that is refused is listed with the reason, followed by the largest smaller one that is not.
std::vector<VerifyLayout> verify_layouts(const Config& config, int64_t ranks, bool only_own);

}  // namespace farsight
