// SPDX-License-Identifier: Apache-2.0
#include "trainer/config_fields.h"

#include <algorithm>

#include "trainer/command_line.h"

namespace farsight::config_fields {
namespace {

using Kind = ConfigValue::Kind;

std::string needed(const ConfigValue& value, const std::string& what) {
  return fmt::format("is {}; needed: {}", to_string(value), what);
}

std::string with_range(const std::string& what, const std::string& range) {
  return range.empty() ? what : what + " " + range;
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

std::string range_text(const IntegerRange& range) {
  const bool low = range.low != std::numeric_limits<int64_t>::min();
  const bool high = range.high != std::numeric_limits<int64_t>::max();
  if (low && high) return fmt::format("{} to {}", range.low, range.high);
  if (low) return fmt::format(">= {}", range.low);
  return high ? fmt::format("<= {}", range.high) : "";
}

std::string range_text(const NumberRange& range) {
  std::string text;
  if (range.low > -std::numeric_limits<double>::infinity())
    text = fmt::format("{} {}", range.above_low ? ">" : ">=", range.low);
  if (range.high < std::numeric_limits<double>::infinity())
    text += fmt::format("{}{} {}", text.empty() ? "" : " and ", range.below_high ? "<" : "<=", range.high);
  return text;
}

std::optional<int64_t> read_integer(const ConfigValue& value, const IntegerRange& range, std::string& error) {
  if (range.automatic != nullptr && value.kind == Kind::text && value.text == range.automatic)
    return range.automatic_value;
  if (value.kind == Kind::integer && value.integer >= range.low && value.integer <= range.high) return value.integer;
  const std::string alternative = range.automatic != nullptr ? fmt::format(" or \"{}\"", range.automatic) : "";
  error = needed(value, with_range("an integer", range_text(range)) + alternative);
  return std::nullopt;
}

std::optional<double> read_number(const ConfigValue& value, const NumberRange& range, std::string& error) {
  if (value.kind == Kind::real || value.kind == Kind::integer) {
    const double number = value.kind == Kind::real ? value.real : static_cast<double>(value.integer);
    const bool low = range.above_low ? number > range.low : number >= range.low;
    const bool high = range.below_high ? number < range.high : number <= range.high;
    // Not-a-number fails both; infinities are no useful setting of anything.
    if (low && high && number - number == 0.0) return number;
  }
  error = needed(value, with_range("a number", range_text(range)));
  return std::nullopt;
}

std::optional<bool> read_boolean(const ConfigValue& value, std::string& error) {
  if (value.kind == Kind::boolean) return value.boolean;
  const std::string word = to_string(value);
  if (word == "1" || word == "\"1\"" || word == "\"on\"" || word == "\"true\"") return true;
  if (word == "0" || word == "\"0\"" || word == "\"off\"" || word == "\"false\"") return false;
  error = needed(value, "true or false (also on/off, 1/0)");
  return std::nullopt;
}

std::optional<std::string> read_text(const ConfigValue& value, std::string& error) {
  if (value.kind == Kind::text) return value.text;
  error = needed(value, "a text in quotes");
  return std::nullopt;
}

std::optional<std::vector<std::string>> read_texts(const ConfigValue& value, std::string& error) {
  std::vector<std::string> texts;
  if (value.kind == Kind::text) return std::vector<std::string>{value.text};
  const bool all = value.kind == Kind::list && std::all_of(value.list.begin(), value.list.end(), [](const auto& item) {
                     return item.kind == Kind::text && !item.text.empty();
                   });
  if (all) {
    for (const ConfigValue& item : value.list) texts.push_back(item.text);
    return texts;
  }
  error = needed(value, "a list of texts, for example [\"a.h5\", \"b.h5\"]");
  return std::nullopt;
}

std::optional<Amount> read_amount(const ConfigValue& value, bool allow_zero, std::string& error) {
  std::optional<Amount> amount;
  if (value.kind == Kind::integer && value.integer >= 0 && value.integer <= (int64_t{1} << 53))
    amount = Amount{static_cast<double>(value.integer), AmountUnit::steps};
  if (value.kind == Kind::text) amount = parse_amount(value.text);
  if (amount && (allow_zero || amount->value > 0.0)) return amount;
  error = needed(value, std::string(allow_zero ? "" : "more than 0 ") +
                            "\"N steps\", \"N samples\", \"N tokens\" (also \"2Gt\") or \"N epochs\" (also \"10e\")");
  return std::nullopt;
}

std::optional<double> read_duration(const ConfigValue& value, std::string& error) {
  std::optional<double> seconds;
  if (value.kind == Kind::integer || value.kind == Kind::real || value.kind == Kind::text)
    seconds = parse_duration(value.kind == Kind::text ? value.text : to_string(value));
  if (!seconds) error = needed(value, "a duration such as \"90s\", \"6m\", \"23h30m\"");
  return seconds;
}

std::optional<int64_t> read_bytes(const ConfigValue& value, int64_t least, std::string& error) {
  std::optional<int64_t> bytes;
  if (value.kind == Kind::integer || value.kind == Kind::text)
    bytes = parse_bytes(value.kind == Kind::text ? value.text : to_string(value));
  if (bytes && *bytes >= least) return bytes;
  error = needed(value, fmt::format("a size such as \"4MiB\", at least {}", format_bytes(least)));
  return std::nullopt;
}

std::string choice_error(const std::string& found, const ConfigKey& key) {
  const bool planned = std::find(key.not_built.begin(), key.not_built.end(), found) != key.not_built.end();
  if (planned) return fmt::format("= {} is not in this build; available: {}", quote(found), join(key.allowed));
  const std::string near = nearest_name(found, key.allowed);
  return fmt::format("is {}; needed: one of {}{}", quote(found), join(key.allowed),
                     near.empty() ? "" : "; did you mean '" + near + "'?");
}

std::string print_texts(const std::vector<std::string>& texts) {
  std::string text = "[";
  for (const std::string& item : texts) text += (text.size() > 1 ? ", " : "") + quote(item);
  return text + "]";
}

}  // namespace farsight::config_fields
