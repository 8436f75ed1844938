// SPDX-License-Identifier: Apache-2.0
#include "data/pretokenizer.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "data/unicode_ranges.h"
#include "data/utf8.h"

namespace farsight {

namespace {

enum class CharClass : uint8_t { other, letter, number, space };

// One byte per code point below U+20000, ranges above: a look-up instead of a binary search per character.
class ClassTable {
 public:
  ClassTable() : classes_(kTableSize, CharClass::other) {
    fill(letter_ranges(), CharClass::letter);
    fill(number_ranges(), CharClass::number);
    fill(space_ranges(), CharClass::space);
  }

  CharClass of(uint32_t code) const {
    if (code < kTableSize) return classes_[code];
    if (contains(letter_ranges(), code)) return CharClass::letter;
    return contains(number_ranges(), code) ? CharClass::number : CharClass::other;  // no spaces up there
  }

 private:
  static constexpr uint32_t kTableSize = 0x20000;

  void fill(std::span<const CodeRange> ranges, CharClass value) {
    for (const CodeRange& range : ranges) {
      for (uint32_t code = range.first; code <= range.last && code < kTableSize; ++code) classes_[code] = value;
    }
  }
  static bool contains(std::span<const CodeRange> ranges, uint32_t code) {
    const auto next = std::upper_bound(ranges.begin(), ranges.end(), code,
                                       [](uint32_t c, const CodeRange& r) { return c < r.first; });
    return next != ranges.begin() && code <= std::prev(next)->last;
  }

  std::vector<CharClass> classes_;
};

const ClassTable& class_table() {
  static const ClassTable table;  // constant once built
  return table;
}

struct Character {
  CharClass kind;
  size_t length;
};

Character character_at(std::string_view text, size_t at) {
  const auto byte = static_cast<uint8_t>(text[at]);
  if (byte < 0x80) return {class_table().of(byte), 1};
  const Utf8Character character = decode_character(text.substr(at));
  return {character.valid ? class_table().of(character.code) : CharClass::other, character.length};
}

size_t run_end(std::string_view text, size_t at, CharClass kind) {
  const ClassTable& table = class_table();
  while (at < text.size()) {
    const auto byte = static_cast<uint8_t>(text[at]);
    if (byte < 0x80) {
      if (table.of(byte) != kind) return at;
      ++at;
      continue;
    }
    const Character next = character_at(text, at);
    if (next.kind != kind) return at;
    at += next.length;
  }
  return at;
}

// Length of 's 't 'm 'd 're 've 'll at the beginning, 0 for none.
size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char first = text[1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  const std::string_view two = text.substr(1, 2);
  return two == "re" || two == "ve" || two == "ll" ? 3 : 0;
}

// A run of spaces leaves its last character to what follows, unless it is the only one or nothing follows.
size_t spaces_end(std::string_view text, size_t begin) {
  size_t at = begin, last = begin;
  while (at < text.size()) {
    const Character next = character_at(text, at);
    if (next.kind != CharClass::space) return last > begin ? last : at;
    last = at;
    at += next.length;
  }
  return at;
}

// The character that ends at `end`: valid UTF-8 only.
struct Previous {
  size_t begin = 0;
  CharClass kind = CharClass::other;
  bool known = false;
};

Previous character_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && is_continuation(text[begin])) --begin;
  const Utf8Character character = decode_character(text.substr(begin, end - begin));
  if (!character.valid || character.length != end - begin) return {.begin = begin};
  return {.begin = begin, .kind = class_table().of(character.code), .known = true};
}

// Whether the pattern always ends a match between these two neighbours. An apostrophe may begin a contraction.
bool certain_border(CharClass left, char left_byte, CharClass right) {
  if (left == CharClass::space || left == right) return false;
  return right == CharClass::space || left != CharClass::other || left_byte != '\'';
}

}  // namespace

size_t pretoken_end(std::string_view text, size_t begin) {
  if (const size_t length = contraction(text.substr(begin))) return begin + length;
  size_t at = begin;
  Character first = character_at(text, at);
  if (text[at] == ' ' && at + 1 < text.size()) {
    const Character second = character_at(text, at + 1);
    if (second.kind != CharClass::space) {
      ++at;
      first = second;
    }
  }
  if (first.kind == CharClass::space) return spaces_end(text, begin);
  return run_end(text, at + first.length, first.kind);
}

size_t last_certain_cut(std::string_view text) {
  if (text.empty()) return 0;
  Previous right = character_before(text, text.size());
  while (right.begin > 0) {
    const Previous left = character_before(text, right.begin);
    if (left.known && right.known && certain_border(left.kind, text[right.begin - 1], right.kind)) return right.begin;
    right = left;
  }
  return 0;
}

std::string pretokenizer_name() { return fmt::format("gpt2, Unicode {}", kUnicodeVersion); }

}  // namespace farsight
