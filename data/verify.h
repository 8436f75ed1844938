// SPDX-License-Identifier: Apache-2.0
// `farsight data verify`: everything in a corpus that can be checked without the text it came from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/corpus.h"

namespace farsight {

struct VerifyReport {
  bool sidecar = false;               // every byte agrees with FILE.sum
  int64_t hashed = 0;                 // arrays whose content_xxh3 agrees
  std::vector<std::string> unhashed;  // arrays without one
  int64_t tokens = 0, documents = 0;  // checked one by one
};

// Checks the metadata (in a child process), the checksum file when there is one, the content hash of every array, that
// every token id lies in the vocabulary, that document borders rise from 0 to N, and that the tokeniser can be rebuilt
// with the fingerprint it is said to have. Throws Error{data} for the first thing that is wrong.
VerifyReport verify_corpus(const std::string& path, const ProbeLimits& limits = {});

}  // namespace farsight
