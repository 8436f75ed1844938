// SPDX-License-Identifier: Apache-2.0
// The one table of configuration keys. The reader, command-line overrides, --help, `farsight config`, the reference
// page, the schema for editors and shell completion are all made from it; a key that is not here is an error.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config.h"
#include "trainer/config_value.h"

namespace farsight {

struct ConfigKey {
  std::string name;                    // "model.layers"
  std::string type;                    // "integer", "number", "true | false", "text", "list of text", "bytes" ...
  std::string range;                   // ">= 1"; empty = any
  std::vector<std::string> allowed;    // choices, when there is a list of them
  std::vector<std::string> not_built;  // values that exist in the specification and are refused by name here
  std::string doc;                     // one line
  std::string example;                 // a value as TOML
  ChangeClass change = ChangeClass::may_change;  // between a checkpoint and the resuming run

  // Stores the value; returns "" or what is wrong with it ("must be an integer >= 1").
  std::function<std::string(Config&, const ConfigValue&)> assign;
  // The value as TOML.
  std::function<std::string(const Config&)> print;

  std::string section() const { return name.substr(0, name.find('.')); }
  std::string short_name() const { return name.substr(name.find('.') + 1); }
};

const std::vector<ConfigKey>& config_keys();              // in the order of documentation, grouped by section
const ConfigKey* find_config_key(std::string_view name);  // nullptr when unknown
std::vector<std::string> config_sections();
std::string section_doc(std::string_view section);
// Keys of the specification that this build does not have; refused with their own message.
bool is_planned_key(std::string_view name);
// "; did you mean 'ring'?" or "" for an unknown key "parallel.rnig".
std::string key_suggestion(const std::string& name);

}  // namespace farsight
