// SPDX-License-Identifier: Apache-2.0
// The commands of the program: one table drives dispatch, --help, shell completion and the messages about misspelt
// names. A command gets parsed arguments and returns an exit code or throws Error; run_program turns errors into a
// message and the documented exit code.
#pragma once

#include <functional>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "kernels/error.h"

namespace farsight {

struct CommandArguments {
  std::string command;                         // "train"
  std::vector<std::string> positional;         // CONFIG, RUN ... as many as the table allows
  std::vector<std::string> overrides;          // "section.key=value" of --section.key=value, for load_config
  std::map<std::string, std::string> options;  // "resume" -> "auto"; flags -> "true"; absent options are absent
  std::vector<std::string> line;               // the whole command line, program name first (for command.txt)

  bool has(const std::string& option) const { return options.count(option) > 0; }
  std::string get(const std::string& option, const std::string& otherwise) const;
  // Error{usage} (64) naming the option unless its value is an integer / a number.
  int64_t integer(const std::string& option, int64_t otherwise) const;
  double number(const std::string& option, double otherwise) const;
};

struct CommandOption {
  std::string name;       // without dashes
  std::string argument;   // "N", "PATH" ...; empty for a flag
  std::string otherwise;  // default as shown in --help; may be empty
  std::string doc;
};

struct Command {
  std::string name;      // "train"
  std::string summary;   // one line
  std::string synopsis;  // what follows the name: "CONFIG [--section.key=value ...]"
  std::string help;      // a paragraph
  std::string example;   // one command line that works
  size_t least_positional = 0, most_positional = 0;
  std::vector<CommandOption> options = {};
  bool overrides = false;  // takes --section.key=value
  bool parallel = false;   // initialises MPI; every other command runs on rank 0 only when started under mpirun
  std::function<int(const CommandArguments&, std::ostream& out, std::ostream& err)> run = {};
  // Instead of `run`: a command with a command line of its own gets everything after its name.
  std::function<int(std::vector<std::string>, std::ostream& out, std::ostream& err)> run_raw = {};
};

// Thrown by a parallel command whose ranks have agreed on an error and whose rank 0 has printed it: sets only the exit
// code.
class ReportedError : public Error {
 public:
  using Error::Error;
};

const std::vector<Command>& commands();

// The whole program but main(): args without the program name. Returns the exit code; never throws.
int run_program(const std::vector<std::string>& args, std::ostream& out, std::ostream& err);

// The nearest of `candidates` to a misspelt `word`, or "" when none is near.
std::string nearest_name(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace farsight
