// SPDX-License-Identifier: Apache-2.0
// attention_bench [--tokens T]... [--heads H] [--width D] [--repeats N] [--forward] [--cpu-clock]: what `farsight bench
// attention` prints, as a program of its own.
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>

#include "trainer/bench_attention.h"

namespace {

bool parse(int argc, char** argv, farsight::BenchAttentionOptions& options) {
  bool first_length = true;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--forward") {
      options.backward = false;
      continue;
    }
    if (name == "--cpu-clock") {
      options.cpu_clock = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const int64_t value = std::stoll(argv[++i]);
    if (value < 1) return false;
    if (name == "--tokens") {
      if (first_length) options.tokens.clear();
      first_length = false;
      options.tokens.push_back(value);
    } else if (name == "--heads") {
      options.heads = value;
    } else if (name == "--width") {
      options.width = value;
    } else if (name == "--repeats") {
      options.repeats = options.reference_repeats = static_cast<int>(value);
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  farsight::BenchAttentionOptions options;
  try {
    if (parse(argc, argv, options)) return farsight::bench_attention(options, std::cout);
  } catch (const std::exception& error) {
    std::cerr << "attention_bench: " << error.what() << '\n';
    return 1;
  }
  std::cerr
      << "usage: attention_bench [--tokens T]... [--heads H] [--width D] [--repeats N] [--forward] [--cpu-clock]\n";
  return 64;
}
