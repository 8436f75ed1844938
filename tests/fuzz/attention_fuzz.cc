// SPDX-License-Identifier: Apache-2.0
// Draws attention configurations from consecutive seeds and compares every one with the dense fp64 oracle; ends at the
// first that differs, with the command that repeats it.
//
//   attention_fuzz [--seed FIRST] [--count N] [--tokens MAX]      --count 0 runs until it is stopped
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "tests/kernels/attention_case.h"

namespace {

struct Options {
  uint64_t seed = 1;
  uint64_t count = 0;
  int64_t tokens = 200;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const uint64_t value = std::stoull(argv[i + 1]);
    if (name == "--seed") {
      options.seed = value;
    } else if (name == "--count") {
      options.count = value;
    } else if (name == "--tokens" && value > 0) {
      options.tokens = static_cast<int64_t>(value);
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

bool agrees(uint64_t seed, int64_t tokens) {
  const auto c = farsight::testing::random_case(seed, tokens);
  const auto errors = farsight::testing::compare_with_oracle(c, farsight::testing::run_blocks(c));
  if (errors.forward <= 2e-6 && errors.backward <= 1e-5) return true;
  fmt::print(
      "seed {}: forward error {:.3g}, gradient error {:.3g}\n  {}\n  repeat: attention_fuzz --seed {} --tokens {} "
      "--count 1\n",
      seed, errors.forward, errors.backward, farsight::testing::describe(c), seed, tokens);
  return false;
}

int run(const Options& options) {
  for (uint64_t n = 0; options.count == 0 || n < options.count; ++n) {
    if (!agrees(options.seed + n, options.tokens)) return 1;
    if (n % 1000 == 999) fmt::print("{} configurations agree\n", n + 1);
  }
  fmt::print("{} configurations agree, seeds {} to {}\n", options.count, options.seed,
             options.seed + options.count - 1);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  try {
    if (parse(argc, argv, options)) return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "attention_fuzz: {}\n", error.what());
  }
  fmt::print(stderr, "usage: attention_fuzz [--seed FIRST] [--count N] [--tokens MAX]\n");
  return 64;
}
