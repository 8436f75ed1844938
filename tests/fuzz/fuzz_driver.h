// SPDX-License-Identifier: Apache-2.0
// The command line and the loop of the fuzz programs:  PROGRAM [--seed FIRST] [--count N]
// --count 0 (the default) runs until it is stopped.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace farsight {

// Calls check(seed), which returns "" or what is wrong, for consecutive seeds. Ends at the first that is wrong with
// exit code 1 and the command that repeats it; 64 for a command line that is not understood.
template <typename Check>
int run_fuzz(const char* name, int argc, char** argv, const Check& check) {
  uint64_t first = 1, count = 0;
  bool understood = argc % 2 == 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    char* end = nullptr;
    const uint64_t value = std::strtoull(argv[i + 1], &end, 10);
    understood = understood && end != argv[i + 1] && *end == '\0' && (option == "--seed" || option == "--count");
    (option == "--seed" ? first : count) = value;
  }
  if (!understood) {
    std::fprintf(stderr, "usage: %s [--seed FIRST] [--count N]\n", name);
    return 64;
  }
  for (uint64_t seed = first; count == 0 || seed < first + count; ++seed) {
    const std::string wrong = check(seed);
    if (wrong.empty()) continue;
    std::fprintf(stderr, "%s\nrepeat: %s --seed %llu --count 1\n", wrong.c_str(), name,
                 static_cast<unsigned long long>(seed));
    return 1;
  }
  std::printf("%llu cases, seeds from %llu\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(first));
  return 0;
}

}  // namespace farsight
