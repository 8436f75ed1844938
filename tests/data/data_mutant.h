// SPDX-License-Identifier: Apache-2.0
// Damaged copies of a small good corpus or file of time series, sent through everything that reads them.
#pragma once

#include <cstdint>
#include <string>

namespace farsight {

enum class MutantSource : uint8_t { corpus, compressed_corpus, series, compressed_series };

// How many mutants met which end.
struct MutantCounts {
  int64_t refused = 0;   // by the child, or by the parent's check of its answer
  int64_t read = 0;      // described and read without an error
  int64_t failed = 0;    // described, but an error while reading
  int64_t verified = 0;  // accepted by `data verify` without a checksum file: every value must be right
};

class DataMutants {
 public:
  // Writes the good file into `folder`.
  DataMutants(const std::string& folder, MutantSource source);

  // Bit flips or a truncation at a multiple of 4 KiB, chosen by `seed`. Returns what is wrong, empty when nothing is:
  // every end is Error{data} or Error{io}, a checksum file always notices, and verification lets no wrong value pass.
  std::string check(uint64_t seed);
  const MutantCounts& counts() const { return counts_; }

 private:
  std::string write_good(const std::string& folder, MutantSource source) const;
  std::string try_to_read();
  std::string try_to_verify();
  std::string try_with_checksums();

  std::string mutant_, good_, good_sum_, uuid_;
  std::string contents_;  // all numbers of the good file
  MutantCounts counts_;
};

}  // namespace farsight
