// SPDX-License-Identifier: Apache-2.0
// Command lines of `farsight data`: one table of options per command drives both the parser and --help.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include <boost/program_options.hpp>

namespace farsight {

struct CommandTable {
  std::string name;         // "farsight data text"
  std::string synopsis;     // "FILE... -o F.h5 [options]"
  std::string description;  // one or two sentences
  std::string example;
  std::string positional;  // name of the option that takes the bare arguments
  boost::program_options::options_description options;
};

// Parses `args` by the table; --help prints the table to `out` and gives nothing. Throws Error{usage}.
std::optional<boost::program_options::variables_map> parse_command(const CommandTable& table,
                                                                   const std::vector<std::string>& args,
                                                                   std::ostream& out);

}  // namespace farsight
