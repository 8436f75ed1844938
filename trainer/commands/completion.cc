// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/completion.h"

#include <ostream>

#include <fmt/format.h>

#include "trainer/config_registry.h"

namespace farsight {
namespace {

std::string command_words(const Command& command) {
  std::string words = "--help";
  for (const CommandOption& option : command.options)
    words += " --" + option.name + (option.argument.empty() ? "" : "=");
  if (command.overrides) words += " $keys";
  if (command.name == "config") words += " init show explain schema";
  if (command.name == "completion") words += " bash";
  return words;
}

// Completes commands, options and --section.key=, and after "=" the values of keys with a list of choices.
std::string bash_script() {
  std::string names, keys, values, cases;
  for (const Command& command : commands()) {
    names += command.name + " ";
    cases += fmt::format("    {}) words=\"{}\" ;;\n", command.name, command_words(command));
  }
  for (const ConfigKey& key : config_keys()) {
    keys += "--" + key.name + "= ";
    std::string choices;
    for (const std::string& word : key.allowed) choices += word + " ";
    if (key.type == "true | false") choices = "true false";
    if (!choices.empty()) values += fmt::format("    --{}) words=\"{}\" ;;\n", key.name, choices);
  }
  return fmt::format(R"(# farsight completion bash; source <(farsight completion bash)
_farsight() {{
  local word words previous keys
  keys="{keys}"
  word="${{COMP_WORDS[COMP_CWORD]}}"
  previous="${{COMP_WORDS[COMP_CWORD-1]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{names}--help --version" -- "$word"))
    return
  fi
  # bash splits --key=value at "=": find the key in front of it.
  if [ "$word" = "=" ]; then word=""; elif [ "$previous" = "=" ]; then previous="${{COMP_WORDS[COMP_CWORD-2]}}"; fi
  words=""
  case "$previous" in
{values}  esac
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}  esac
  COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))
  case "${{COMPREPLY[0]}}" in *=) compopt -o nospace ;; esac
}}
complete -F _farsight farsight
)",
                     fmt::arg("names", names), fmt::arg("keys", keys), fmt::arg("values", values),
                     fmt::arg("cases", cases));
}

}  // namespace

int run_completion(const CommandArguments& arguments, std::ostream& out, std::ostream&) {
  const std::string& shell = arguments.positional.front();
  if (shell != "bash") fail(ErrorKind::usage, "completion for '{}' is not in this build; available: bash", shell);
  out << bash_script();
  return 0;
}

}  // namespace farsight
