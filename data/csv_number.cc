// SPDX-License-Identifier: Apache-2.0
#include "data/csv_number.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>

namespace farsight {

namespace {

constexpr size_t kLongestWord = 9;
constexpr size_t kLongestNumber = 400;  // of one with a decimal comma: it is copied

bool is_digit(char c) { return c >= '0' && c <= '9'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_missing_word(std::string_view text) {
  static constexpr std::string_view kWords[] = {"na",  "n/a", "#n/a",     "nan", "null", "none",
                                                "nil", "inf", "infinity", "-",   "--",   "?"};
  if (text.empty()) return true;
  if (text.size() > kLongestWord) return false;
  std::string word(text);
  std::transform(word.begin(), word.end(), word.begin(), lower);
  std::string_view bare = word;
  if (bare.size() > 2 && (bare[0] == '-' || bare[0] == '+')) bare.remove_prefix(1);
  return std::find(std::begin(kWords), std::end(kWords), bare) != std::end(kWords);
}

// Whether a number that is out of range is so because it is close to zero: its first digit stands behind the point.
bool below_one(std::string_view text) {
  const size_t letter = std::min(text.find_first_of("eE"), text.size());
  const std::string_view digits = text.substr(0, letter);
  std::string_view power = text.substr(std::min(letter + 1, text.size()));
  const bool negative = power.starts_with('-');
  if (power.starts_with('+')) power.remove_prefix(1);
  int64_t exponent = 0;
  const auto read = std::from_chars(power.data(), power.data() + power.size(), exponent);
  if (read.ec == std::errc::result_out_of_range) return negative;
  const auto point = static_cast<int64_t>(std::min(digits.find('.'), digits.size()));
  auto first = static_cast<int64_t>(std::min(digits.find_first_of("123456789"), digits.size()));
  if (first > point) --first;  // the point is no digit
  return point - first + exponent <= 0;
}

// A decimal with a point, which may follow a sign: the whole text or nothing.
Cell read_decimal(std::string_view text) {
  const char *begin = text.data(), *end = begin + text.size();
  const bool plus = begin != end && *begin == '+';
  if (plus) ++begin;  // from_chars does not know it
  const char* first = !plus && begin != end && *begin == '-' ? begin + 1 : begin;
  // from_chars knows words for NaN and infinity; here they are missing values.
  if (first == end || (!is_digit(*first) && *first != '.')) return {.kind = CellKind::text};
  Cell cell{.kind = CellKind::number, .value = 0.0F};
  const auto [at, error] = std::from_chars(begin, end, cell.value);
  if (at != end || error == std::errc::invalid_argument) return {.kind = CellKind::text};
  if (error == std::errc() && !std::isinf(cell.value)) return cell;
  if (!below_one({first, static_cast<size_t>(end - first)})) return {.kind = CellKind::too_large};
  double wide = 0.0;
  std::from_chars(begin, end, wide);
  return {.kind = CellKind::number, .value = static_cast<float>(wide)};
}

Cell read_with_comma(std::string_view text) {
  if (text.size() > kLongestNumber || text.find('.') != std::string_view::npos) return {.kind = CellKind::text};
  std::array<char, kLongestNumber> copy{};
  std::replace_copy(text.begin(), text.end(), copy.begin(), ',', '.');
  return read_decimal({copy.data(), text.size()});
}

// Digits in groups of three: "1,234", "12 345 678", with a decimal part after another mark or without.
bool looks_grouped(std::string_view text, char group, char decimal) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  const std::string_view whole = text.substr(0, text.find(decimal));
  const std::string_view part = whole.size() < text.size() ? text.substr(whole.size() + 1) : std::string_view();
  size_t since = 0, groups = 0;
  for (const char c : whole) {
    if (is_digit(c)) {
      ++since;
    } else if (c == group && (groups == 0 ? since >= 1 && since <= 3 : since == 3)) {
      ++groups;
      since = 0;
    } else {
      return false;
    }
  }
  return groups > 0 && since == 3 && std::all_of(part.begin(), part.end(), is_digit);
}

// Something like a number that is written in another way than `decimal` says.
CellKind foreign_number(std::string_view text, char decimal) {
  const char other = decimal == '.' ? ',' : '.';
  const CellKind other_mark = decimal == '.' ? CellKind::decimal_comma : CellKind::decimal_point;
  // "1.234,5": groups by this file's decimal mark can only mean the other one.
  if (text.find(other) != std::string_view::npos && looks_grouped(text, decimal, other)) return other_mark;
  const bool one_other = std::count(text.begin(), text.end(), other) == 1;
  if (one_other && text.find(decimal) == std::string_view::npos) {
    std::string swapped(text);
    std::replace(swapped.begin(), swapped.end(), other, '.');
    if (read_decimal(swapped).kind == CellKind::number) return other_mark;
  }
  for (const char group : {other, decimal, ' ', '\'', '_'}) {
    if (looks_grouped(text, group, group == decimal ? other : decimal)) return CellKind::thousands;
  }
  return CellKind::text;
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

Cell read_cell(std::string_view text, char decimal) {
  text = trimmed(text);
  const Cell cell = decimal == '.' ? read_decimal(text) : read_with_comma(text);
  if (cell.kind != CellKind::text) return cell;
  if (is_missing_word(text)) return {.kind = CellKind::missing};
  return {.kind = foreign_number(text, decimal)};
}

}  // namespace farsight
