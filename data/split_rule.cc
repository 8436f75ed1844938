// SPDX-License-Identifier: Apache-2.0
#include "data/split_rule.h"

#include <charconv>

#include "data/utf8.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr uint64_t kOne = 1'000'000'000;
constexpr size_t kDecimals = 9;
constexpr std::array<const char*, 3> kNames = {"train", "valid", "test"};

[[noreturn]] void refuse(const std::string& text, const char* why) {
  fail(ErrorKind::usage, "--split={}: {}; write fractions like 0.98/0.01/0.01 (train/valid/test)", text, why);
}

bool all_digits(std::string_view text) { return text.find_first_not_of("0123456789") == std::string_view::npos; }

// "0.05" in units of 1e-9.
uint64_t parse_decimal(const std::string& all, std::string_view text) {
  const size_t dot = text.find('.');
  const std::string_view whole = text.substr(0, dot);
  std::string decimals(dot == std::string_view::npos ? "" : text.substr(dot + 1));
  if (text.empty() || whole.size() > 1 || decimals.size() > kDecimals || !all_digits(whole) || !all_digits(decimals)) {
    refuse(all, "not a list of numbers from 0 to 1 with at most 9 decimals");
  }
  decimals.append(kDecimals - decimals.size(), '0');
  const std::string digits = std::string(whole) + decimals;
  uint64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

// floor(count * billionths / 1e9) without overflow.
int64_t scaled(int64_t count, uint64_t billionths) {
  const auto whole = static_cast<uint64_t>(count) / kOne, rest = static_cast<uint64_t>(count) % kOne;
  return static_cast<int64_t>(whole * billionths + rest * billionths / kOne);
}

}  // namespace

SplitFractions SplitFractions::parse(const std::string& text) {
  SplitFractions fractions;
  uint64_t sum = 0;
  size_t number = 0;
  for (std::string_view rest = text; true;) {
    const size_t slash = rest.find('/');
    const uint64_t value = parse_decimal(text, rest.substr(0, slash));
    if (++number > kNames.size()) refuse(text, "more than three fractions");
    fractions.billionths_[number - 1] = value;
    sum += value;
    if (value > 0) {  // zero: there is no such split
      fractions.names_.emplace_back(kNames[number - 1]);
      fractions.borders_.push_back(sum);
    }
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  if (sum != kOne) refuse(text, "the fractions do not add up to 1");
  return fractions;
}

int SplitFractions::of_hash(uint64_t xxh3) const {
  const uint64_t low = xxh3 & 0xFFFFFFFFU;
  for (size_t i = 0; i + 1 < borders_.size(); ++i) {
    if (low * kOne < borders_[i] << 32) return static_cast<int>(i);
  }
  return static_cast<int>(borders_.size()) - 1;
}

std::vector<int64_t> SplitFractions::cuts(int64_t bytes) const {
  std::vector<int64_t> result;
  for (size_t i = 0; i + 1 < borders_.size(); ++i) {
    result.push_back(scaled(bytes, borders_[i]));
  }
  return result;
}

std::array<int64_t, 3> SplitFractions::shares(int64_t count) const {
  return {scaled(count, billionths_[0]), scaled(count, billionths_[1]), scaled(count, billionths_[2])};
}

void CutFinder::feed(std::string_view text) {
  const std::string before = last_;
  const auto at = [&](int64_t position) {  // byte at a position from offset_ - 3 on
    const int64_t inside = position - offset_;
    return inside >= 0 ? text[static_cast<size_t>(inside)]
                       : before[static_cast<size_t>(static_cast<int64_t>(before.size()) + inside)];
  };
  const auto end = offset_ + static_cast<int64_t>(text.size());
  for (; next_ < cuts_.size() && cuts_[next_] < end; ++next_) {
    const int64_t lowest = std::max(cuts_[next_] - 3, offset_ - static_cast<int64_t>(before.size()));
    int64_t cut = cuts_[next_];
    while (cut > lowest && is_continuation(at(cut))) --cut;
    if (!is_continuation(at(cut))) cuts_[next_] = cut;
  }
  last_ = (before + std::string(text.substr(text.size() - std::min<size_t>(3, text.size()))));
  last_.erase(0, last_.size() - std::min<size_t>(3, last_.size()));
  offset_ = end;
}

}  // namespace farsight
