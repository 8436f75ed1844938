// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/data.h"

#include <ostream>

#include "kernels/error.h"
#include "trainer/commands/data_commands.h"

namespace farsight {

namespace {

using Args = std::vector<std::string>;
using Command = int (*)(const Args&, std::ostream&, std::ostream&);

struct CommandEntry {
  const char* name;
  const char* summary;
  Command run;
};

constexpr CommandEntry kCommands[] = {
    {"text", "text files and JSONL to a corpus of token ids", run_data_text},
    {"csv", "tables of measurements to time series", run_data_csv},
    {"tokenizer", "train a tokenizer, encode, decode, fingerprint", run_data_tokenizer},
    {"inspect", "what a corpus or a file of time series holds; baselines of forecasts", run_data_inspect},
    {"verify", "check checksums, hashes and contents of a data file", run_data_verify},
};

void print_commands(std::ostream& out) {
  out << "usage: farsight data COMMAND ...\n\n";
  for (const CommandEntry& command : kCommands) out << fmt::format("  {:10} {}\n", command.name, command.summary);
  out << "\nfarsight data COMMAND --help explains each.\n";
}

}  // namespace

int run_data_command(std::vector<std::string> args, std::ostream& out, std::ostream& err) {
  if (args.empty() || args[0] == "--help" || args[0] == "-h") {
    print_commands(out);
    if (args.empty()) fail(ErrorKind::usage, "farsight data: no command given");
    return 0;
  }
  for (const CommandEntry& command : kCommands) {
    if (args[0] == command.name) return command.run(Args(args.begin() + 1, args.end()), out, err);
  }
  fail(ErrorKind::usage, "farsight data: no command '{}'; see farsight data --help", args[0]);
}

}  // namespace farsight
