// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/verify.h"

#include <malloc.h>
#include <unistd.h>

#include <cstdlib>
#include <ostream>

#include "trainer/verify.h"

namespace farsight {
namespace {

int64_t between(const CommandArguments& arguments, const char* option, int64_t otherwise, int64_t least, int64_t most) {
  const int64_t value = arguments.integer(option, otherwise);
  if (arguments.has(option) && (value < least || value > most)) {
    fail(ErrorKind::usage, "--{} = {} is not between {} and {}", option, value, least, most);
  }
  return value;
}

// One line that is written over; nothing where no one watches.
Progress progress_line(std::ostream& err) {
  if (isatty(STDERR_FILENO) != 1 || std::getenv("NO_COLOR") != nullptr) return [](const std::string&) {};
  return [&err](const std::string& text) { err << "\r\x1b[K" << text << std::flush; };
}

VerifyRequest request_of(const CommandArguments& arguments, std::ostream& err) {
  VerifyRequest request;
  request.config = load_config(arguments.positional.front(), arguments.overrides);
  request.ranks = between(arguments, "ranks", 0, 1, 256);
  request.steps = between(arguments, "steps", request.steps, 1, 1000);
  request.sequence = between(arguments, "sequence", 0, 1, int64_t{1} << 40);
  request.directions = between(arguments, "directions", request.directions, 0, 1000);
  request.only_own = arguments.has("own-layout");
  request.progress = progress_line(err);
  return request;
}

}  // namespace

int run_verify(const CommandArguments& arguments, std::ostream& out, std::ostream& err) {
  // One layout after the other: what the C library keeps of a gathered tensor, per thread, would add up.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  const std::string& path = arguments.positional.front();
  VerifyRequest request = request_of(arguments, err);
  if (!arguments.has("json")) request.announce = [&](const LayoutVerdict& r) { out << verify_header(r) << std::flush; };
  LayoutVerdict report;
  try {
    report = verify(request);
  } catch (...) {
    request.progress("");
    throw;
  }
  request.progress("");
  return conclude_verify(report, path, arguments.has("json"), out);
}

int conclude_verify(const LayoutVerdict& report, const std::string& config_path, bool json, std::ostream& out) {
  out << (json ? verify_json(report, config_path) : verify_text(report)) << std::flush;
  const std::string verdict = report.verdict(config_path);
  if (!verdict.empty()) throw Error(ErrorKind::internal, verdict);
  if (json) return 0;
  const std::string launcher = report.ranks > 1 ? fmt::format("mpirun -np {} ", report.ranks) : "";
  out << fmt::format("all agree; next: {}farsight train {}\n", launcher, config_path) << std::flush;
  return 0;
}

}  // namespace farsight
