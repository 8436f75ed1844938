// SPDX-License-Identifier: Apache-2.0
// Reads the text of a configuration into keys and values, before any of it is understood: TOML syntax, `extends`,
// ${VAR}, overrides. Every problem is collected, so that a user sees all of them at once.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config_value.h"

namespace farsight {

// Lines "position: error: text", in the order of discovery.
class ConfigProblems {
 public:
  // Control characters of quoted input are escaped: a problem is one line.
  void add(const std::string& position, const std::string& text);
  bool empty() const { return lines_.empty(); }
  const std::vector<std::string>& lines() const { return lines_; }
  // Error{config} with every line, unless there is none.
  void throw_if_any() const;

 private:
  std::vector<std::string> lines_;
};

struct RawConfig {
  std::map<std::string, ConfigValue> values;  // by full key name; later sources have replaced earlier ones
  std::string text;                           // of the outermost file
};

// Unknown keys and sections, syntax errors, missing variables and cycles of `extends` become problems; what could be
// read is returned all the same.
RawConfig read_config_file(const std::string& path, const std::vector<std::string>& overrides,
                           ConfigProblems& problems);
RawConfig read_config_text(std::string_view text, const std::string& file_name,
                           const std::vector<std::string>& overrides, ConfigProblems& problems);

}  // namespace farsight
