// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/bench.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"
#include "trainer/bench_attention.h"
#include "trainer/bench_comm.h"
#include "trainer/bench_kernels.h"
#include "trainer/parallel_command.h"

namespace farsight {
namespace {

constexpr int64_t kLongest = int64_t{1} << 17;  // the dense reference holds a T x T matrix

std::vector<int64_t> lengths(std::string_view text) {
  std::vector<int64_t> out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    int64_t value = 0;
    const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, value);
    if (error != std::errc() || stop != text.data() + end || value < 1 || value > kLongest) {
      fail(ErrorKind::usage, "bench: --tokens={} is not a list of lengths from 1 to {} such as 4096,8192", text,
           kLongest);
    }
    out.push_back(value);
    begin = end + 1;
  }
  return out;
}

int run_attention(const CommandArguments& arguments, std::ostream& out) {
  BenchAttentionOptions options;
  if (arguments.has("tokens")) options.tokens = lengths(arguments.get("tokens", ""));
  options.heads = arguments.integer("heads", options.heads);
  options.width = arguments.integer("width", options.width);
  options.backward = !arguments.has("forward");
  if (options.heads < 1 || options.width < 1) fail(ErrorKind::usage, "bench: --heads and --width must be at least 1");
  return bench_attention(options, out);
}

}  // namespace

int run_bench(const CommandArguments& arguments, std::ostream& out, std::ostream& err) {
  const std::string& what = arguments.positional.at(0);
  const bool json = arguments.has("json");
  if (what == "comm") return bench_comm({}, json, out, err);
  if (what != "attention" && what != "kernels") {
    fail(ErrorKind::usage, "bench: '{}' is not a benchmark of this build; available: attention, kernels, comm", what);
  }
  if (!expected_root()) return 0;
  return what == "kernels" ? bench_kernels({}, json, out) : run_attention(arguments, out);
}

}  // namespace farsight
