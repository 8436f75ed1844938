// SPDX-License-Identifier: Apache-2.0
// The layouts in which every configuration must give the numbers of one rank. Suffixes of the order: c contiguous,
// z zigzag, s striped; m micro-batches, zN ZeRO stage, g its group, ag/s all-gather with s key heads at a time, sp
// activations sharded over the tensor ranks.
#pragma once

#include <string>
#include <vector>

namespace farsight {

struct Layout {
  const char* name;
  int ranks;
  std::vector<std::string> overrides;
  bool quick = false;  // among those that are run every time
};

const std::vector<Layout>& all_layouts();

}  // namespace farsight
