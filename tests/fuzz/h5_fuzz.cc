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
#include "tests/fuzz/fuzz_driver.h"

int main(int argc, char** argv) {
  std::string folder = (std::filesystem::temp_directory_path() / "farsight-h5-fuzz-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 2;
  std::filesystem::create_directory(folder + "/plain");
  std::filesystem::create_directory(folder + "/archive");
  int result = 0;
  {
    farsight::CorpusMutants plain(folder + "/plain", farsight::MutantSource::contiguous);
    farsight::CorpusMutants archive(folder + "/archive", farsight::MutantSource::compressed);
    result = farsight::run_fuzz("h5_fuzz", argc, argv,
                                [&](uint64_t seed) { return (seed % 4 == 0 ? archive : plain).check(seed); });
  }
  std::filesystem::remove_all(folder);
  return result;
}
