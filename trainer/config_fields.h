// SPDX-License-Identifier: Apache-2.0
// How one member of Config becomes a key of the registry: a builder per type, which makes the reader, the printer and
// the texts of the key from the same few facts. Used by config_keys.cc only.
#pragma once

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "trainer/config_registry.h"

namespace farsight::config_fields {

template <typename Section, typename T>
struct Member {
  Section Config::*section;
  T Section::*field;
  T& of(Config& config) const { return config.*section.*field; }
  const T& of(const Config& config) const { return config.*section.*field; }
};
template <typename Section, typename T>
Member<Section, T> member(Section Config::*section, T Section::*field) {
  return {section, field};
}

struct IntegerRange {
  int64_t low = std::numeric_limits<int64_t>::min();
  int64_t high = std::numeric_limits<int64_t>::max();
  const char* automatic = nullptr;  // a word that stands for automatic_value: "auto", "all"
  int64_t automatic_value = 0;
};
struct NumberRange {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool above_low = false;   // low itself is excluded
  bool below_high = false;  // high itself is excluded
};
std::string range_text(const IntegerRange& range);
std::string range_text(const NumberRange& range);

// The value as a typed one; on failure `error` says what was needed.
std::optional<int64_t> read_integer(const ConfigValue& value, const IntegerRange& range, std::string& error);
std::optional<double> read_number(const ConfigValue& value, const NumberRange& range, std::string& error);
std::optional<bool> read_boolean(const ConfigValue& value, std::string& error);
std::optional<std::string> read_text(const ConfigValue& value, std::string& error);
std::optional<std::vector<std::string>> read_texts(const ConfigValue& value, std::string& error);
std::optional<Amount> read_amount(const ConfigValue& value, bool allow_zero, std::string& error);
std::optional<double> read_duration(const ConfigValue& value, std::string& error);
std::optional<int64_t> read_bytes(const ConfigValue& value, int64_t least, std::string& error);
std::string choice_error(const std::string& found, const ConfigKey& key);
std::string print_texts(const std::vector<std::string>& texts);

// A key whose reader is read(value, error) -> optional<T> and whose printer is print(T) -> TOML.
template <typename Section, typename T, typename Read, typename Print>
ConfigKey bind(std::string name, Member<Section, T> where, Read read, Print print) {
  ConfigKey key;
  key.name = std::move(name);
  key.assign = [where, read](Config& config, const ConfigValue& value) {
    std::string error;
    auto typed = read(value, error);
    if (typed) where.of(config) = std::move(*typed);
    return error;
  };
  key.print = [where, print](const Config& config) { return print(where.of(config)); };
  return key;
}

template <typename Section>
ConfigKey integer(std::string name, Member<Section, int64_t> where, IntegerRange range) {
  ConfigKey key = bind(
      std::move(name), where,
      [range](const ConfigValue& value, std::string& error) { return read_integer(value, range, error); },
      [range](int64_t v) {
        return range.automatic != nullptr && v == range.automatic_value ? quote(range.automatic) : std::to_string(v);
      });
  key.type = range.automatic != nullptr ? fmt::format("integer or \"{}\"", range.automatic) : "integer";
  key.range = range_text(range);
  return key;
}

template <typename Section>
ConfigKey number(std::string name, Member<Section, double> where, NumberRange range) {
  ConfigKey key = bind(
      std::move(name), where,
      [range](const ConfigValue& value, std::string& error) { return read_number(value, range, error); }, format_real);
  key.type = "number";
  key.range = range_text(range);
  return key;
}

template <typename Section>
ConfigKey boolean(std::string name, Member<Section, bool> where) {
  ConfigKey key = bind(std::move(name), where, read_boolean, [](bool v) { return v ? "true" : "false"; });
  key.type = "true | false";
  return key;
}

template <typename Section>
ConfigKey text(std::string name, Member<Section, std::string> where) {
  ConfigKey key = bind(std::move(name), where, read_text, [](const std::string& v) { return quote(v); });
  key.type = "text";
  return key;
}

template <typename Section>
ConfigKey texts(std::string name, Member<Section, std::vector<std::string>> where) {
  ConfigKey key = bind(std::move(name), where, read_texts, print_texts);
  key.type = "list of text";
  return key;
}

template <typename Section>
ConfigKey amount(std::string name, Member<Section, Amount> where, bool allow_zero) {
  ConfigKey key = bind(
      std::move(name), where,
      [allow_zero](const ConfigValue& value, std::string& error) { return read_amount(value, allow_zero, error); },
      [](const Amount& v) { return quote(to_string(v)); });
  key.type = "steps, samples, tokens or epochs";
  key.range = allow_zero ? ">= 0; 0 = never" : "> 0";
  return key;
}

template <typename Section>
ConfigKey duration(std::string name, Member<Section, double> where) {
  ConfigKey key = bind(std::move(name), where, read_duration, [](double v) { return quote(format_duration(v)); });
  key.type = "duration";
  key.range = ">= 0s";
  return key;
}

template <typename Section>
ConfigKey bytes(std::string name, Member<Section, int64_t> where, int64_t least) {
  ConfigKey key = bind(
      std::move(name), where,
      [least](const ConfigValue& value, std::string& error) { return read_bytes(value, least, error); },
      [](int64_t v) { return quote(format_bytes(v)); });
  key.type = "bytes";
  key.range = ">= " + format_bytes(least);
  return key;
}

template <typename T>
using Choices = std::vector<std::pair<std::string, T>>;

template <typename Section, typename T>
ConfigKey choice(std::string name, Member<Section, T> where, Choices<T> choices,
                 std::vector<std::string> not_built = {}) {
  ConfigKey key;
  key.name = std::move(name);
  key.type = "one of";
  key.not_built = std::move(not_built);
  for (const auto& [word, value] : choices) key.allowed.push_back(word);
  key.assign = [where, choices, texts = key](Config& config, const ConfigValue& value) -> std::string {
    const std::string word = value.kind == ConfigValue::Kind::text ? value.text : to_string(value);
    for (const auto& [name_of_choice, typed] : choices)
      if (word == name_of_choice) return where.of(config) = typed, "";
    return choice_error(word, texts);
  };
  key.print = [where, choices](const Config& config) -> std::string {
    for (const auto& [word, value] : choices)
      if (value == where.of(config)) return quote(word);
    return "\"\"";
  };
  return key;
}

}  // namespace farsight::config_fields
