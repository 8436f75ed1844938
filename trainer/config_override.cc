// SPDX-License-Identifier: Apache-2.0
#include "trainer/config_override.h"

#include <array>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace farsight {
namespace {

constexpr std::array<ContextChoice, 4> kContexts{ContextChoice::automatic, ContextChoice::ring,
                                                 ContextChoice::allgather, ContextChoice::ulysses};
constexpr const char* kNeeded =
    "needed: tables like { layers = \"0..3\", context = \"ring\" }, context one of auto, ring, allgather, ulysses";

// "3" or "0..3".
std::optional<std::pair<int64_t, int64_t>> parse_layers(const ConfigValue& value) {
  if (value.kind == ConfigValue::Kind::integer) return std::pair{value.integer, value.integer};
  if (value.kind != ConfigValue::Kind::text) return std::nullopt;
  const size_t dots = value.text.find("..");
  const auto first = parse_integer(value.text.substr(0, dots));
  const auto last = dots == std::string::npos ? first : parse_integer(value.text.substr(dots + 2));
  if (!first || !last || *first < 0 || *last < *first) return std::nullopt;
  return std::pair{*first, *last};
}

std::optional<ContextChoice> parse_context(const ConfigValue& value) {
  if (value.kind != ConfigValue::Kind::text) return std::nullopt;
  for (const ContextChoice choice : kContexts) {
    if (value.text == to_string(choice)) return choice;
  }
  return std::nullopt;
}

// "" or what is wrong.
std::string read_entry(const ConfigValue& value, ContextOverride& entry) {
  if (value.kind != ConfigValue::Kind::table) return fmt::format("holds {}; {}", to_string(value), kNeeded);
  bool layers = false, context = false;
  for (const auto& [key, item] : value.table) {
    if (key == "layers") {
      const auto range = parse_layers(item);
      if (!range) return fmt::format("has layers = {}; needed: \"N\" or \"FIRST..LAST\"", to_string(item));
      std::tie(entry.first, entry.last) = *range;
      layers = true;
    } else if (key == "context") {
      const auto choice = parse_context(item);
      if (!choice) return fmt::format("has context = {}; {}", to_string(item), kNeeded);
      entry.context = *choice;
      context = true;
    } else {
      return fmt::format("has the unknown key '{}'; {}", key, kNeeded);
    }
  }
  return layers && context ? "" : fmt::format("has a table without layers or without context; {}", kNeeded);
}

std::string assign(Config& config, const ConfigValue& value) {
  if (value.kind != ConfigValue::Kind::list) return fmt::format("is {}; {}", to_string(value), kNeeded);
  std::vector<ContextOverride> entries;
  for (const ConfigValue& item : value.list) {
    const std::string error = read_entry(item, entries.emplace_back());
    if (!error.empty()) return error;
  }
  config.parallel.overrides = std::move(entries);
  return "";
}

std::string print(const Config& config) {
  std::string text;
  for (const ContextOverride& entry : config.parallel.overrides) {
    text += fmt::format("{}{{ layers = \"{}..{}\", context = \"{}\" }}", text.empty() ? "" : ", ", entry.first,
                        entry.last, to_string(entry.context));
  }
  return "[" + text + "]";
}

}  // namespace

ConfigKey context_override_key() {
  ConfigKey key;
  key.name = "parallel.override";
  key.type = "list of tables";
  key.change = ChangeClass::may_change;
  key.example = "[{ layers = \"0..3\", context = \"ring\" }]";
  key.doc = "layers whose attention crosses the ranks of a sequence in their own way; also as [[parallel.override]]";
  key.assign = assign;
  key.print = print;
  return key;
}

const char* to_string(ContextChoice context) {
  switch (context) {
    case ContextChoice::automatic:
      return "auto";
    case ContextChoice::ring:
      return "ring";
    case ContextChoice::allgather:
      return "allgather";
    case ContextChoice::ulysses:
      return "ulysses";
  }
  return "auto";
}

std::vector<ContextChoice> context_of_layers(const Config& config) {
  std::vector<ContextChoice> result(static_cast<size_t>(config.model.layers), config.parallel.context);
  for (const ContextOverride& entry : config.parallel.overrides) {
    for (int64_t i = entry.first; i <= entry.last && i < config.model.layers; ++i) {
      result[static_cast<size_t>(i)] = entry.context;
    }
  }
  return result;
}

}  // namespace farsight
