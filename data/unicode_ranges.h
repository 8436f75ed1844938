// SPDX-License-Identifier: Apache-2.0
// Character classes of Unicode that the pre-tokeniser needs, as sorted ranges that do not touch.
#pragma once

#include <cstdint>
#include <span>

namespace farsight {

inline constexpr const char* kUnicodeVersion = "15.0";

struct CodeRange {
  uint32_t first, last;  // both included
};

std::span<const CodeRange> letter_ranges();  // \p{L}
std::span<const CodeRange> number_ranges();  // \p{N}
std::span<const CodeRange> space_ranges();   // \s: the property White_Space

}  // namespace farsight
