// SPDX-License-Identifier: Apache-2.0
// UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace farsight {

// The character at the beginning of a non-empty text. For invalid bytes valid is false and length is that of the
// longest beginning of a character (at least 1): what one U+FFFD replaces.
struct Utf8Character {
  uint32_t code = 0;
  uint32_t length = 1;
  bool valid = false;
  bool incomplete = false;  // invalid only because the text ends
};
Utf8Character decode_character(std::string_view text);

// Length of the longest prefix of valid characters.
size_t valid_utf8_prefix(std::string_view text);

inline bool is_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

void append_utf8(uint32_t code, std::string& text);

}  // namespace farsight
