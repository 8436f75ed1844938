// SPDX-License-Identifier: Apache-2.0
// Damages a good corpus from consecutive seeds and sends it through the validating child, the reader and verification
// (tests/data/corpus_mutant.h says what must hold). Ends at the first that breaks it, with the command that repeats it.
//
//   h5_fuzz [--seed FIRST] [--count N]      --count 0 runs until it is stopped
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "tests/data/corpus_mutant.h"

namespace farsight {
namespace {

int run(const std::string& folder, uint64_t first, uint64_t cases) {
  std::filesystem::create_directory(folder + "/plain");
  std::filesystem::create_directory(folder + "/archive");
  CorpusMutants plain(folder + "/plain", MutantSource::contiguous);
  CorpusMutants archive(folder + "/archive", MutantSource::compressed);
  for (uint64_t seed = first; cases == 0 || seed < first + cases; ++seed) {
    const std::string wrong = (seed % 4 == 0 ? archive : plain).check(seed);
    if (wrong.empty()) continue;
    std::fprintf(stderr, "%s\nrepeat: h5_fuzz --seed %llu --count 1\n", wrong.c_str(),
                 static_cast<unsigned long long>(seed));
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) {
  uint64_t seed = 1, cases = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--seed") seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--count") cases = std::strtoull(argv[i + 1], nullptr, 10);
  }
  std::string folder = (std::filesystem::temp_directory_path() / "farsight-h5-fuzz-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 2;
  const int result = farsight::run(folder, seed, cases);
  std::filesystem::remove_all(folder);
  return result;
}
