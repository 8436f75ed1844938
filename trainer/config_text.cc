// SPDX-License-Identifier: Apache-2.0
#include "trainer/config_text.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "trainer/config_registry.h"

namespace farsight {
namespace {

std::string join(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

std::string type_text(const ConfigKey& key) {
  std::string text = key.allowed.empty() ? key.type : join(key.allowed, " | ");
  if (!key.range.empty()) text += ", " + key.range;
  return text;
}

// A bar inside a Markdown table would end the cell.
std::string table_cell(const std::string& text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|') cell += '\\';
    cell += c;
  }
  return cell;
}

// What a user gets without setting the key, before "auto" is resolved.
std::string default_text(const ConfigKey& key) {
  if (key.name == "data.train") return "none: must be given";
  if (key.name == "run.name") return "the name of the file";
  return key.print(Config{});
}

const char* change_text(ChangeClass change) {
  switch (change) {
    case ChangeClass::must_match:
      return "must be the same";
    case ChangeClass::warn:
      return "may change, with a warning";
    case ChangeClass::may_change:
      return "may change";
  }
  return "";
}

bool is_usual(const std::string& name) {
  constexpr std::array<std::string_view, 19> usual{
      "data.train",   "data.sequence",    "data.pack",     "model.layers",  "model.width",
      "model.heads",  "attention.mask",   "parallel.data", "parallel.ring", "optim.lr",
      "optim.warmup", "optim.min_lr",     "train.steps",   "train.batch",   "eval.every",
      "eval.prompt",  "checkpoint.every", "log.every",     "run.seed"};
  return std::find(usual.begin(), usual.end(), name) != usual.end();
}

nlohmann::ordered_json key_schema(const ConfigKey& key) {
  nlohmann::ordered_json schema;
  schema["description"] = fmt::format("{} ({}; default {})", key.doc, type_text(key), default_text(key));
  if (!key.allowed.empty()) schema["enum"] = key.allowed;
  if (key.type == "true | false") schema["type"] = "boolean";
  if (key.type == "number") schema["type"] = "number";
  if (key.type == "integer") schema["type"] = "integer";
  if (key.type == "text") schema["type"] = "string";
  if (key.type == "two numbers" || key.type == "list of numbers") schema["type"] = "array";
  return schema;
}

}  // namespace

std::string explain_key(const std::string& name) {
  const ConfigKey* key = find_config_key(name);
  if (key == nullptr) fail(ErrorKind::usage, "unknown key '{}'{}", name, key_suggestion(name));
  std::string text = fmt::format("{}\n  {}\n\n", key->name, key->doc);
  const auto line = [&](const char* what, const std::string& value) {
    if (!value.empty()) text += fmt::format("  {:<11} {}\n", what, value);
  };
  line("type", type_text(*key));
  line("default", default_text(*key));
  line("example", fmt::format("{} = {}", key->short_name(), key->example));
  line("not built", join(key->not_built, ", "));
  line("on resume", change_text(key->change));
  return text;
}

std::string reference_page() {
  std::string text = "# Configuration reference\n", section;
  for (const ConfigKey& key : config_keys()) {
    if (key.section() != section) {
      section = key.section();
      text += fmt::format("\n## [{}] {}\n\n| key | type | default | meaning | on resume |\n|---|---|---|---|---|\n",
                          section, section_doc(section));
    }
    text += fmt::format("| `{}` | {} | `{}` | {} | {} |\n", key.short_name(), table_cell(type_text(key)),
                        default_text(key), key.doc, change_text(key.change));
  }
  return text;
}

std::string starter_config() {
  std::string text = "# Every key that is commented out shows its default. `farsight config explain KEY` says more.\n";
  std::string section;
  for (const ConfigKey& key : config_keys()) {
    if (key.section() != section) {
      section = key.section();
      text += fmt::format("\n[{}]  # {}\n", section, section_doc(section));
    }
    const bool usual = is_usual(key.name);
    const std::string setting =
        fmt::format("{} = {}", key.short_name(), usual && key.name == "data.train" ? key.example : key.print(Config{}));
    text += fmt::format("{}{:<{}} # {}\n", usual ? "" : "# ", setting, usual ? 32 : 30, key.doc);
  }
  return text;
}

std::string config_schema() {
  nlohmann::ordered_json schema;
  schema["$schema"] = "http://json-schema.org/draft-07/schema#";
  schema["title"] = "Farsight configuration";
  schema["type"] = "object";
  schema["additionalProperties"] = false;
  schema["properties"]["extends"]["description"] = "files that this one builds on, relative to it";
  for (const ConfigKey& key : config_keys()) {
    auto& section = schema["properties"][key.section()];
    section["type"] = "object";
    section["description"] = section_doc(key.section());
    section["additionalProperties"] = false;
    section["properties"][key.short_name()] = key_schema(key);
  }
  return schema.dump(2) + "\n";
}

std::string annotated_toml(const Config& config) {
  std::string text, section;
  for (const ConfigKey& key : config_keys()) {
    if (key.section() != section) text += fmt::format("{}[{}]\n", section.empty() ? "" : "\n", key.section());
    section = key.section();
    const auto origin = config.origins.find(key.name);
    const std::string setting = fmt::format("{} = {}", key.short_name(), key.print(config));
    text += fmt::format("{:<36} # {}\n", setting, origin == config.origins.end() ? "default" : origin->second);
  }
  return text;
}

}  // namespace farsight
