// SPDX-License-Identifier: Apache-2.0
// One cell of a table of measurements as a number. The locale plays no part.
#pragma once

#include <cstdint>
#include <string_view>

namespace farsight {

enum class CellKind : uint8_t {
  number,
  missing,        // empty, NaN, infinite, or a word for "no value": NA, n/a, null, none, -, ?
  decimal_comma,  // "1.234,5" or "1,5" where the decimal mark is a point
  decimal_point,  // "1.5" where it is a comma
  thousands,      // "1,234.5", "1.234.567", "1 234"
  too_large,      // a number beyond the range of float
  text            // anything else
};

struct Cell {
  CellKind kind = CellKind::missing;
  float value = 0.0F;  // of a number: the float nearest to the decimal that stands there
};

// `decimal` is '.' or ','. Blanks around the number and a sign before it are allowed.
Cell read_cell(std::string_view text, char decimal);

// Without blanks and tabs at both ends.
std::string_view trimmed(std::string_view text);

}  // namespace farsight
