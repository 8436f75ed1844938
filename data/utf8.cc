// SPDX-License-Identifier: Apache-2.0
#include "data/utf8.h"

#include <cstring>

namespace farsight {

namespace {

// What a first byte promises: total length and the range of the second byte (Unicode standard, table 3-7).
struct Lead {
  uint32_t length;
  uint8_t low, high;
};

Lead lead_of(uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

size_t ascii_prefix(std::string_view text) {
  size_t at = 0;
  uint64_t word = 0;
  while (at + sizeof(word) <= text.size()) {
    std::memcpy(&word, text.data() + at, sizeof(word));
    if ((word & 0x8080808080808080U) != 0) break;
    at += sizeof(word);
  }
  while (at < text.size() && static_cast<uint8_t>(text[at]) < 0x80) ++at;
  return at;
}

}  // namespace

Utf8Character decode_character(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return {.code = first, .length = 1, .valid = true};
  const Lead lead = lead_of(first);
  if (lead.length == 0) return {};
  uint32_t code = first & (0x7FU >> lead.length);
  for (uint32_t i = 1; i < lead.length; ++i) {
    if (i >= text.size()) return {.code = 0, .length = i, .valid = false, .incomplete = true};
    const auto byte = static_cast<uint8_t>(text[i]);
    const bool fits = i == 1 ? byte >= lead.low && byte <= lead.high : is_continuation(text[i]);
    if (!fits) return {.code = 0, .length = i};
    code = code << 6 | (byte & 0x3FU);
  }
  return {.code = code, .length = lead.length, .valid = true};
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (true) {
    at += ascii_prefix(text.substr(at));
    if (at == text.size()) return at;
    const Utf8Character next = decode_character(text.substr(at));
    if (!next.valid) return at;
    at += next.length;
  }
}

void append_utf8(uint32_t code, std::string& text) {
  const auto put = [&text](uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xE0 | code >> 12);
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
    }
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

}  // namespace farsight
