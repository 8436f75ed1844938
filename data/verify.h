// SPDX-License-Identifier: Apache-2.0
// `farsight data verify`: everything in a data file that can be checked without what it was made from.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "data/probe.h"

namespace farsight {

struct VerifyReport {
  bool sidecar = false;               // every byte agrees with FILE.sum
  int64_t hashed = 0;                 // arrays whose content_xxh3 agrees
  std::vector<std::string> unhashed;  // arrays without one
};

struct CorpusReport : VerifyReport {
  int64_t tokens = 0, documents = 0;  // checked one by one
};

struct SeriesReport : VerifyReport {
  int64_t series = 0, rows = 0, values = 0, masked = 0;  // checked one by one
};

// Checks the metadata (in a child process), the checksum file when there is one, and the content hash of every array.
// Throws Error{data} for the first thing that is wrong.
//   corpora: every token id lies in the vocabulary, document borders rise from 0 to N, and the tokeniser can be rebuilt
//            with the fingerprint it is said to have.
//   series:  times increase, by one step of the frequency where there is one; `start` is the first of them; a mask
//   holds
//            0 and 1, and values are NaN exactly where it holds 0; /stats is what the training rows give, to 1e-9.
using DataReport = std::variant<CorpusReport, SeriesReport>;
DataReport verify_data(const std::string& path, const ProbeLimits& limits = {});

// Error{data} for a file of the other kind.
CorpusReport verify_corpus(const std::string& path, const ProbeLimits& limits = {});
SeriesReport verify_series(const std::string& path, const ProbeLimits& limits = {});

// Of files that have been probed.
CorpusReport verify_corpus(const CorpusDescriptor& corpus);
SeriesReport verify_series(const SeriesDescriptor& series);  // verify_series.cc

}  // namespace farsight
