// SPDX-License-Identifier: Apache-2.0
#include "data/csv_delimiter.h"

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/error.h"

namespace farsight {

namespace {

constexpr std::string_view kDelimiters = ",;\t";
constexpr size_t kLines = 20;

using Counts = std::array<int64_t, kDelimiters.size()>;

// How often each stands in each of the first lines that are not empty.
std::vector<Counts> count_lines(std::string_view text, bool whole) {
  std::vector<Counts> lines;
  Counts counts{};
  bool quoted = false, empty = true;
  for (const char c : text) {
    if (c == '"') quoted = !quoted;
    if (c == '\n' && !quoted) {
      if (!empty) lines.push_back(counts);
      if (lines.size() == kLines) return lines;
      counts = {};
      empty = true;
      continue;
    }
    if (c != '\r') empty = false;
    const size_t which = kDelimiters.find(c);
    if (which != std::string_view::npos && !quoted) ++counts[which];
  }
  if (!empty && (whole || lines.empty())) lines.push_back(counts);
  return lines;
}

bool equal_in_all(const std::vector<Counts>& lines, size_t which) {
  for (const Counts& line : lines) {
    if (line[which] != lines[0][which]) return false;
  }
  return true;
}

const char* name_of(char delimiter) {
  return delimiter == ',' ? "a comma" : delimiter == ';' ? "a semicolon" : "a tab";
}

}  // namespace

char find_csv_delimiter(const std::string& name, std::string_view beginning, bool whole, char decimal) {
  const std::vector<Counts> lines = count_lines(beginning, whole);
  std::string possible, equal;
  for (size_t i = 0; i < kDelimiters.size(); ++i) {
    if (lines.empty() || lines[0][i] == 0) continue;
    possible += kDelimiters[i];
    if (equal_in_all(lines, i)) equal += kDelimiters[i];
  }
  if (possible.empty()) return ',';
  // Lines that differ are for the caller to complain about, with the delimiter that the header must have.
  std::string& found = equal.empty() ? possible : equal;
  if (found.size() > 1) std::erase(found, decimal);
  if (found.size() == 1) return found[0];
  fail(ErrorKind::data,
       "{}:1: {} and {} can both stand between the columns; pass --delimiter=, or --delimiter=';' or --delimiter=tab",
       name, name_of(found[0]), name_of(found[1]));
}

}  // namespace farsight
