// SPDX-License-Identifier: Apache-2.0
// farsight data verify
#include <ostream>

#include "data/file.h"
#include "data/verify.h"
#include "kernels/error.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/data_options.h"

namespace farsight {

namespace {

using Args = std::vector<std::string>;

CommandTable verify_table() {
  return {.name = "farsight data verify",
          .synopsis = "F.h5...",
          .description =
              "Checks checksums and content hashes, of a corpus token ids and document borders, of time series times, "
              "masks, values and statistics.",
          .example = "farsight data verify corpus.h5",
          .positional = "file",
          .options = {}};
}

std::string contents(const CorpusReport& report) {
  return fmt::format("{} tokens, {} documents", with_commas(report.tokens), with_commas(report.documents));
}

std::string contents(const SeriesReport& report) {
  return fmt::format("{} rows in {} series, {} values, {} of them masked", with_commas(report.rows),
                     with_commas(report.series), with_commas(report.values), with_commas(report.masked));
}

template <typename Report>
void print(const std::string& path, const Report& report, std::ostream& out, std::ostream& err) {
  if (!report.sidecar) err << fmt::format("{}: warning: no checksum file {}.sum beside it\n", path, path);
  for (const std::string& array : report.unhashed) {
    err << fmt::format("{}: warning: '{}' has no content hash\n", path, array);
  }
  out << fmt::format("{}: good: {}, {} content hashes{}\n", path, contents(report), report.hashed,
                     report.sidecar ? ", every byte" : "");
}

}  // namespace

int run_data_verify(const Args& args, std::ostream& out, std::ostream& err) {
  const auto values = parse_command(verify_table(), args, out);
  if (!values) return 0;
  if (values->count("file") == 0) fail(ErrorKind::usage, "farsight data verify: no file given");
  for (const std::string& path : (*values)["file"].as<Args>()) {
    std::visit([&](const auto& report) { print(path, report, out, err); }, verify_data(path));
  }
  return 0;
}

}  // namespace farsight
