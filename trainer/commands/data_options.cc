// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/data_options.h"

#include <ostream>

#include "kernels/error.h"

namespace farsight {

namespace {

namespace po = boost::program_options;

void print_help(const CommandTable& table, const po::options_description& visible, std::ostream& out) {
  out << "usage: " << table.name << ' ' << table.synopsis << "\n\n"
      << table.description << "\n\n"
      << visible << "\nexample:\n  " << table.example << '\n';
}

}  // namespace

std::optional<po::variables_map> parse_command(const CommandTable& table, const std::vector<std::string>& args,
                                               std::ostream& out) {
  po::options_description visible("options", 110);
  for (const auto& option : table.options.options()) visible.add(option);
  visible.add_options()("help,h", "this text");
  po::options_description all;
  all.add(visible);
  all.add_options()(table.positional.c_str(), po::value<std::vector<std::string>>());
  po::positional_options_description positional;
  positional.add(table.positional.c_str(), -1);
  po::variables_map values;
  try {
    // Guessing would let a new option change the meaning of an old command line.
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(args).options(all).positional(positional).style(style).run(), values);
    po::notify(values);
  } catch (const po::error& error) {
    fail(ErrorKind::usage, "{}: {}; see {} --help", table.name, error.what(), table.name);
  }
  if (values.count("help") == 0) return values;
  print_help(table, visible, out);
  return std::nullopt;
}

}  // namespace farsight
