// SPDX-License-Identifier: Apache-2.0
// Documents made from the registry of keys.
#pragma once

#include <string>

#include "trainer/config.h"

namespace farsight {

// One key in full: type, range, default, example, meaning on resume. Error{usage} with a suggestion when unknown.
std::string explain_key(const std::string& name);
// Every key as a Markdown page.
std::string reference_page();
// A configuration to start from: every section, the usual keys set, all others as comments with their defaults.
std::string starter_config();
// JSON Schema (draft 7) of a configuration file, for editors.
std::string config_schema();
// to_toml with a comment per key: where its value comes from.
std::string annotated_toml(const Config& config);

}  // namespace farsight
