// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/config.h"

#include <ostream>

#include "trainer/config.h"
#include "trainer/config_text.h"

namespace farsight {
namespace {

int show(const CommandArguments& arguments, std::ostream& out) {
  if (arguments.positional.size() < 2)
    fail(ErrorKind::usage, "`farsight config show` needs a configuration: farsight config show lm.toml");
  out << annotated_toml(load_config(arguments.positional[1], arguments.overrides));
  return 0;
}

}  // namespace

int run_config(const CommandArguments& arguments, std::ostream& out, std::ostream&) {
  const std::string& verb = arguments.positional.front();
  const bool has_operand = arguments.positional.size() > 1;
  if (verb == "show") return show(arguments, out);
  if (verb != "explain" && has_operand)
    fail(ErrorKind::usage, "`farsight config {}` does not take '{}'", verb, arguments.positional[1]);
  if (!arguments.overrides.empty())
    fail(ErrorKind::usage, "--{} has a meaning for `farsight config show` only", arguments.overrides.front());
  if (verb == "init")
    out << starter_config();
  else if (verb == "schema")
    out << config_schema();
  else if (verb == "explain")
    out << (has_operand ? explain_key(arguments.positional[1]) : reference_page());
  else {
    const std::string near = nearest_name(verb, {"init", "show", "explain", "schema"});
    fail(ErrorKind::usage, "unknown verb 'config {}'{}; available: init, show, explain, schema", verb,
         near.empty() ? "" : "; did you mean '" + near + "'?");
  }
  return 0;
}

}  // namespace farsight
