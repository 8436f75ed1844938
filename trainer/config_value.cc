// SPDX-License-Identifier: Apache-2.0
#include "trainer/config_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace farsight {
namespace {

constexpr double kLargestExact = 9007199254740992.0;  // 2^53: amounts are doubles that hold integers

std::string_view trim(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

// Takes a number without sign from the front of text; "10e" gives 10 and leaves the unit "e".
std::optional<double> take_number(std::string_view& text) {
  double value = 0.0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || std::signbit(value) || !std::isfinite(value)) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

double take_si_prefix(std::string_view& text) {
  constexpr std::array<std::pair<char, double>, 4> prefixes{{{'k', 1e3}, {'M', 1e6}, {'G', 1e9}, {'T', 1e12}}};
  for (const auto& [letter, factor] : prefixes)
    if (!text.empty() && text.front() == letter) {
      text.remove_prefix(1);
      return factor;
    }
  return 1.0;
}

std::optional<AmountUnit> amount_unit(std::string_view name) {
  if (name == "steps" || name == "step") return AmountUnit::steps;
  if (name == "samples" || name == "sample") return AmountUnit::samples;
  if (name == "tokens" || name == "token" || name == "t") return AmountUnit::tokens;
  if (name == "epochs" || name == "epoch" || name == "e") return AmountUnit::epochs;
  return std::nullopt;
}

struct Unit {
  std::string_view name;
  double size;
};
constexpr std::array<Unit, 5> kTimeUnits{{{"ms", 1e-3}, {"s", 1.0}, {"m", 60.0}, {"h", 3600.0}, {"d", 86400.0}}};
constexpr std::array<Unit, 9> kByteUnits{{{"KiB", 1024.0},
                                          {"MiB", 1048576.0},
                                          {"GiB", 1073741824.0},
                                          {"TiB", 1099511627776.0},
                                          {"kB", 1e3},
                                          {"MB", 1e6},
                                          {"GB", 1e9},
                                          {"TB", 1e12},
                                          {"B", 1.0}}};

template <size_t N>
std::optional<double> take_unit(std::string_view& text, const std::array<Unit, N>& units) {
  for (const Unit& unit : units)
    if (text.substr(0, unit.name.size()) == unit.name) {
      text.remove_prefix(unit.name.size());
      return unit.size;
    }
  return std::nullopt;
}

std::optional<double> whole_milliseconds(double seconds) {
  constexpr double longest = 1e10;  // three centuries
  if (seconds < 0.0 || seconds > longest) return std::nullopt;
  return std::round(seconds * 1e3) / 1e3;
}

std::optional<int64_t> window_side(std::string_view text) {
  const auto value = parse_integer(trim(text));
  if (!value || *value < 0 || *value > kUnlimitedWindow) return std::nullopt;
  return value;
}

bool apply_window(std::string_view arguments, MaskConfig& mask) {
  const size_t comma = arguments.find(',');
  if (comma == std::string_view::npos) return false;
  const auto left = window_side(arguments.substr(0, comma));
  const auto right = window_side(arguments.substr(comma + 1));
  if (!left || !right) return false;
  mask.window_left = std::min(mask.window_left, *left);
  mask.window_right = std::min(mask.window_right, *right);
  return true;
}

std::string apply_mask_term(std::string_view term, MaskConfig& mask) {
  constexpr std::string_view window = "window(";
  if (term == "causal") {
    mask.causal = true;
  } else if (term.substr(0, window.size()) == window && term.back() == ')') {
    if (!apply_window(term.substr(window.size(), term.size() - window.size() - 1), mask))
      return fmt::format("'{}' is not window(left,right) with two numbers of tokens from 0 on", term);
  } else if (term != "full") {
    return fmt::format("'{}' is not one of causal, full, window(left,right)", term);
  }
  return "";
}

std::string list_text(const std::vector<ConfigValue>& list) {
  std::string text = "[";
  for (const ConfigValue& item : list) text += (text.size() > 1 ? ", " : "") + to_string(item);
  return text + "]";
}

}  // namespace

std::string to_string(const ConfigValue& value) {
  switch (value.kind) {
    case ConfigValue::Kind::boolean:
      return value.boolean ? "true" : "false";
    case ConfigValue::Kind::integer:
      return std::to_string(value.integer);
    case ConfigValue::Kind::real:
      return format_real(value.real);
    case ConfigValue::Kind::text:
      return quote(value.text);
    case ConfigValue::Kind::list:
      return list_text(value.list);
    case ConfigValue::Kind::table:
    case ConfigValue::Kind::other:
      break;
  }
  return value.text;
}

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0.0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<Amount> parse_amount(std::string_view text) {
  text = trim(text);
  const auto number = take_number(text);
  if (!number) return std::nullopt;
  const double value = *number * take_si_prefix(text);
  const auto unit = amount_unit(trim(text));
  if (!unit || value > kLargestExact) return std::nullopt;
  if (*unit != AmountUnit::epochs && value != std::floor(value)) return std::nullopt;
  return Amount{value, *unit};
}

std::optional<double> parse_duration(std::string_view text) {
  text = trim(text);
  if (const auto plain = parse_number(text)) return whole_milliseconds(*plain);
  double seconds = 0.0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    const auto number = take_number(text);
    const auto unit = number ? take_unit(text, kTimeUnits) : std::nullopt;
    if (!unit) return std::nullopt;
    seconds += *number * *unit;
    text = trim(text);
  }
  return whole_milliseconds(seconds);
}

std::optional<int64_t> parse_bytes(std::string_view text) {
  text = trim(text);
  if (const auto plain = parse_integer(text)) return *plain < 0 ? std::nullopt : plain;
  const auto number = take_number(text);
  if (!number) return std::nullopt;
  text = trim(text);
  const auto unit = take_unit(text, kByteUnits);
  if (!unit || !text.empty()) return std::nullopt;
  const double bytes = *number * *unit;
  if (bytes > kLargestExact || bytes != std::floor(bytes)) return std::nullopt;
  return static_cast<int64_t>(bytes);
}

std::optional<MaskConfig> parse_mask(std::string_view text, std::string& reason) {
  MaskConfig mask;
  mask.causal = false;
  constexpr std::string_view joint = " and ";
  for (bool more = true; more;) {
    const size_t end = text.find(joint);
    more = end != std::string_view::npos;
    const std::string_view term = trim(text.substr(0, end));
    reason = term.empty() ? "a term is missing" : apply_mask_term(term, mask);
    if (!reason.empty()) return std::nullopt;
    if (more) text.remove_prefix(end + joint.size());
  }
  // A causal mask already hides every later key.
  if (mask.causal) mask.window_right = kUnlimitedWindow;
  return mask;
}

std::string format_real(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

std::string format_duration(double seconds) {
  if (seconds != std::floor(seconds)) return fmt::format("{}ms", std::llround(seconds * 1e3));
  auto left = static_cast<int64_t>(seconds);
  if (left == 0) return "0s";
  std::string text;
  for (auto unit = kTimeUnits.rbegin(); unit != kTimeUnits.rend() && left > 0; ++unit) {
    const auto size = static_cast<int64_t>(unit->size);
    if (size < 1 || left < size) continue;
    text += fmt::format("{}{}", left / size, unit->name);
    left %= size;
  }
  return text;
}

std::string format_bytes(int64_t bytes) {
  constexpr std::array<const char*, 5> names{"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; unit + 1 < names.size() && bytes != 0 && bytes % 1024 == 0; ++unit) bytes /= 1024;
  return fmt::format("{}{}", bytes, names[unit]);
}

std::string format_mask(const MaskConfig& mask) {
  const bool window = mask.window_left != kUnlimitedWindow || mask.window_right != kUnlimitedWindow;
  if (!window) return mask.causal ? "causal" : "full";
  const std::string text = fmt::format("window({},{})", mask.window_left, mask.causal ? int64_t{0} : mask.window_right);
  return mask.causal ? "causal and " + text : text;
}

std::string quote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\u{:04X}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string to_string(const Amount& amount) {
  constexpr std::array<const char*, 4> names{"steps", "samples", "tokens", "epochs"};
  const char* name = names[static_cast<size_t>(amount.unit)];
  if (amount.value == std::floor(amount.value)) return fmt::format("{} {}", static_cast<int64_t>(amount.value), name);
  return fmt::format("{} {}", amount.value, name);
}

}  // namespace farsight
