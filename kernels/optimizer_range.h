// SPDX-License-Identifier: Apache-2.0
// A stretch of a flat slab that an optimizer treats alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace farsight {

struct OptimizerRange {
  int64_t begin = 0;
  int64_t count = 0;
  float rate = 1.0F;  // multiplies the learning rate
  bool decay = false;
};

// Throws Error{internal}, naming op, unless every range lies within [0, elements).
void check_optimizer_ranges(const char* op, std::span<const OptimizerRange> ranges, size_t elements);

// The ranges cut into pieces of at most 64 Ki elements, in order: units of work for threads.
std::vector<OptimizerRange> optimizer_pieces(std::span<const OptimizerRange> ranges);

}  // namespace farsight
