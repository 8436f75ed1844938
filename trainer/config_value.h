// SPDX-License-Identifier: Apache-2.0
// Values of the configuration as they are written: TOML scalars and lists, and quantities with units.
//   amounts    500 steps, 12 samples, 10e or 10 epochs, 2Gt or 16384 tokens; prefixes k M G T are powers of 1000
//   durations  23h30m, 90s, 1.5h, 250ms; a plain number is seconds
//   bytes      4GiB, 512 KiB, 80GB, 100B; a plain number is bytes
// Parsing never depends on the locale. Functions return nothing for text that is not such a quantity.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/config.h"

namespace farsight {

struct ConfigValue {
  enum class Kind : uint8_t { boolean, integer, real, text, list, table, other };
  Kind kind = Kind::other;
  bool boolean = false;
  int64_t integer = 0;
  double real = 0.0;
  std::string text;  // of Kind::text; of Kind::table and Kind::other what it is ("a table", "a date")
  std::vector<ConfigValue> list;
  std::vector<std::pair<std::string, ConfigValue>> table;
  std::string position;  // "lm.toml:13:10" or "command line"
};
// As in TOML, for messages.
std::string to_string(const ConfigValue& value);

std::optional<int64_t> parse_integer(std::string_view text);
std::optional<double> parse_number(std::string_view text);  // finite
std::optional<Amount> parse_amount(std::string_view text);
std::optional<double> parse_duration(std::string_view text);
std::optional<int64_t> parse_bytes(std::string_view text);
// "causal", "full", "window(l,r)" joined with "and"; windows intersect. On failure `reason` says why.
std::optional<MaskConfig> parse_mask(std::string_view text, std::string& reason);

// Inverse of the parsers.
std::string format_real(double value);  // shortest text that reads back equal, with a point or an exponent
std::string format_duration(double seconds);
std::string format_bytes(int64_t bytes);
std::string format_mask(const MaskConfig& mask);
std::string quote(std::string_view text);  // a TOML basic string

}  // namespace farsight
