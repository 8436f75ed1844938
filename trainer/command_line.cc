// SPDX-License-Identifier: Apache-2.0
#include "trainer/command_line.h"

#include <algorithm>
#include <cstdlib>
#include <ostream>
#include <string_view>

#include <boost/program_options.hpp>
#include <fmt/format.h>

#include "trainer/config_value.h"
#include "trainer/version.h"

namespace farsight {
namespace {

namespace po = boost::program_options;

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string near = nearest_name(word, candidates);
  return near.empty() ? "" : "; did you mean '" + near + "'?";
}

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const Command& command : commands()) names.push_back(command.name);
  return names;
}

// What launchers tell a process about its place; 0 without a launcher.
int64_t launcher_number(std::initializer_list<const char*> variables, int64_t otherwise) {
  for (const char* variable : variables)
    if (const char* text = std::getenv(variable); text != nullptr)
      if (const auto number = parse_integer(text)) return *number;
  return otherwise;
}
int64_t launched_rank() {
  return launcher_number({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}, 0);
}

void print_options(const Command& command, std::ostream& out) {
  const auto line = [&](const std::string& left, const std::string& doc) {
    out << fmt::format("  {:<28} {}\n", left, doc);
  };
  out << "\nOptions:\n";
  for (const CommandOption& option : command.options) {
    const std::string value = option.argument.empty() ? "" : "=" + option.argument;
    const std::string otherwise = option.otherwise.empty() ? "" : " (default " + option.otherwise + ")";
    line("--" + option.name + value, option.doc + otherwise);
  }
  if (command.overrides) line("--SECTION.KEY=VALUE", "replaces a key of CONFIG; see `farsight config explain`");
  line("--help", "this text");
}

void print_help(const Command& command, std::ostream& out) {
  out << fmt::format("Usage: farsight {} {}\n\n{}\n", command.name, command.synopsis, command.help);
  print_options(command, out);
  out << fmt::format("\nExample:\n  {}\n", command.example);
}

void print_overview(std::ostream& out) {
  out << "Usage: farsight COMMAND ...\n\nTrains attention models on sequences shared by many ranks.\n\nCommands:\n";
  for (const Command& command : commands()) out << fmt::format("  {:<12} {}\n", command.name, command.summary);
  out << "\n`farsight COMMAND --help` shows options and an example; `farsight config explain` documents every key of "
         "a\n"
         "configuration; `farsight --version` shows what this build is.\n";
}

[[noreturn]] void unknown_option(const Command& command, const std::string& name) {
  std::vector<std::string> names{"help"};
  for (const CommandOption& option : command.options) names.push_back(option.name);
  fail(ErrorKind::usage, "unknown option '--{}' of `farsight {}`{} (see farsight {} --help)", name, command.name,
       did_you_mean(name, names), command.name);
}

po::options_description describe_options(const Command& command) {
  po::options_description description;
  description.add_options()("help", "");
  for (const CommandOption& option : command.options) {
    if (option.argument.empty())
      description.add_options()(option.name.c_str(), "");
    else
      description.add_options()(option.name.c_str(), po::value<std::string>(), "");
  }
  return description;
}

void take_unregistered(const Command& command, const po::option& option, CommandArguments& arguments) {
  const std::string& token = option.original_tokens.front();
  const std::string name = option.string_key;
  if (name.find('.') == std::string::npos || !command.overrides) unknown_option(command, name);
  if (token.find('=') == std::string::npos)
    fail(ErrorKind::usage, "'{}' needs its value behind '=': {}=VALUE", token, token);
  arguments.overrides.push_back(token.substr(token.find_first_not_of('-')));
}

void take_option(const Command& command, const po::option& option, CommandArguments& arguments) {
  if (option.position_key >= 0) return arguments.positional.push_back(option.value.front());
  if (option.unregistered) return take_unregistered(command, option, arguments);
  const std::string& name = option.string_key;
  if (arguments.has(name)) fail(ErrorKind::usage, "option '--{}' is given twice", name);
  arguments.options[name] = option.value.empty() ? "true" : option.value.front();
}

void check_positional(const Command& command, const CommandArguments& arguments) {
  const size_t count = arguments.positional.size();
  if (count < command.least_positional)
    fail(ErrorKind::usage, "`farsight {}` needs more arguments: farsight {} {}", command.name, command.name,
         command.synopsis);
  if (count > command.most_positional)
    fail(ErrorKind::usage, "`farsight {}` does not take '{}': farsight {} {}", command.name,
         arguments.positional[command.most_positional], command.name, command.synopsis);
}

CommandArguments parse(const Command& command, const std::vector<std::string>& args) {
  CommandArguments arguments;
  arguments.command = command.name;
  const int style = po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                    po::command_line_style::long_allow_next;
  const po::options_description description = describe_options(command);
  po::positional_options_description positional;
  positional.add("positional", -1);
  std::vector<std::string> rest(args.begin() + 1, args.end());
  // The one short option: -o for --output.
  const bool writes = std::any_of(command.options.begin(), command.options.end(),
                                  [](const CommandOption& option) { return option.name == "output"; });
  if (writes) std::replace(rest.begin(), rest.end(), std::string("-o"), std::string("--output"));
  const auto parsed =
      po::command_line_parser(rest).options(description).positional(positional).style(style).allow_unregistered().run();
  for (const po::option& option : parsed.options) take_option(command, option, arguments);
  arguments.line = args;
  arguments.line.insert(arguments.line.begin(), "farsight");
  return arguments;
}

int run_command(const Command& command, const std::vector<std::string>& args, std::ostream& out, std::ostream& err) {
  // Started on many ranks, a command without message passing must still act, and speak, once.
  if (!command.parallel && launched_rank() > 0) return 0;
  if (command.run_raw) return command.run_raw({args.begin() + 1, args.end()}, out, err);
  const CommandArguments arguments = parse(command, args);
  if (arguments.has("help")) {
    if (launched_rank() == 0) print_help(command, out);
    return 0;
  }
  check_positional(command, arguments);
  return command.run(arguments, out, err);
}

[[noreturn]] void unknown_command(const std::string& name) {
  fail(ErrorKind::usage, "'{}' is not in this build{}; available: {}", name, did_you_mean(name, command_names()),
       join(command_names()));
}

int dispatch(const std::vector<std::string>& args, std::ostream& out, std::ostream& err) {
  const bool speaks = launched_rank() == 0;
  if (args.empty()) fail(ErrorKind::usage, "a command is missing; available: {}", join(command_names()));
  const std::string& first = args.front();
  if (first == "--version") {
    if (speaks) out << version_text();
    return 0;
  }
  if (first == "--help" || first == "help") {
    if (speaks) print_overview(out);
    return 0;
  }
  for (const Command& command : commands())
    if (command.name == first) return run_command(command, args, out, err);
  unknown_command(first);
}

// Configuration messages carry their own "file:line:column: error:"; every other message gets a prefix. What all ranks
// find alike before they can talk is said by rank 0 only; parallel commands throw ReportedError elsewhere.
void report(const Error& error, std::ostream& err) {
  const bool same_everywhere = error.kind() == ErrorKind::usage || error.kind() == ErrorKind::config;
  if (same_everywhere && launched_rank() > 0) return;
  const std::string text = error.what();
  const bool placed = text.substr(0, text.find('\n')).find(": error: ") != std::string::npos;
  err << (placed ? "" : "error: ") << text << "\n" << std::flush;
}

}  // namespace

std::string CommandArguments::get(const std::string& option, const std::string& otherwise) const {
  const auto found = options.find(option);
  return found == options.end() ? otherwise : found->second;
}

int64_t CommandArguments::integer(const std::string& option, int64_t otherwise) const {
  if (!has(option)) return otherwise;
  const auto value = parse_integer(get(option, ""));
  if (!value) fail(ErrorKind::usage, "--{} = '{}' is not an integer", option, get(option, ""));
  return *value;
}

double CommandArguments::number(const std::string& option, double otherwise) const {
  if (!has(option)) return otherwise;
  const auto value = parse_number(get(option, ""));
  if (!value) fail(ErrorKind::usage, "--{} = '{}' is not a number", option, get(option, ""));
  return *value;
}

int run_program(const std::vector<std::string>& args, std::ostream& out, std::ostream& err) {
  try {
    return dispatch(args, out, err);
  } catch (const ReportedError& error) {
    return exit_code(error.kind());
  } catch (const Error& error) {
    report(error, err);
    return exit_code(error.kind());
  } catch (const po::error& error) {
    report(Error(ErrorKind::usage, error.what()), err);
    return exit_code(ErrorKind::usage);
  } catch (const std::exception& error) {
    err << "internal error: " << error.what()
        << "\nThis is a bug. Please report it with the command line and the output of "
        << "`farsight --version`.\n";
    return exit_code(ErrorKind::internal);
  }
}

std::string nearest_name(const std::string& word, const std::vector<std::string>& candidates) {
  // Edit distance with swaps of neighbours (optimal string alignment): the usual typing slips cost 1.
  const auto distance = [](std::string_view a, std::string_view b) {
    std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
    for (size_t i = 0; i <= a.size(); ++i) {
      for (size_t j = 0; j <= b.size(); ++j) {
        if (i == 0 || j == 0) {
          d[i][j] = i + j;
          continue;
        }
        const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
        d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + change});
        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
          d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
    return d[a.size()][b.size()];
  };
  constexpr size_t longest = 64;  // nobody misspells more; keeps hostile input cheap
  if (word.size() > longest) return "";
  std::string best;
  size_t least = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t found = distance(word, candidate);
    if (found < least) {
      least = found;
      best = candidate;
    }
  }
  return best;
}

}  // namespace farsight
