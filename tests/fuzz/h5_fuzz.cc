// SPDX-License-Identifier: Apache-2.0
// Damages good corpora and files of time series from consecutive seeds and sends them through the validating child, the
// reader and verification (tests/data/data_mutant.h says what must hold). Ends at the first that breaks it, with the
// command that repeats it.
//
//   h5_fuzz [--seed FIRST] [--count N]      --count 0 runs until it is stopped
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "tests/data/data_mutant.h"
#include "tests/fuzz/fuzz_driver.h"

int main(int argc, char** argv) {
  std::string folder = (std::filesystem::temp_directory_path() / "farsight-h5-fuzz-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 2;
  int result = 0;
  {
    using farsight::MutantSource;
    const auto mutants = [&](const char* name, MutantSource source) {
      std::filesystem::create_directory(folder + "/" + name);
      return farsight::DataMutants(folder + "/" + name, source);
    };
    farsight::DataMutants all[] = {mutants("corpus", MutantSource::corpus), mutants("series", MutantSource::series),
                                   mutants("corpus-archive", MutantSource::compressed_corpus),
                                   mutants("series-archive", MutantSource::compressed_series)};
    result = farsight::run_fuzz("h5_fuzz", argc, argv, [&](uint64_t seed) { return all[seed % 4].check(seed); });
  }
  std::filesystem::remove_all(folder);
  return result;
}
