// SPDX-License-Identifier: Apache-2.0
// Writes a corpus of kind "tokens" (corpus_format.md) with its checksum file; see data_writer.h.
#pragma once

#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/data_writer.h"
#include "data/token_spool.h"

namespace farsight {

struct CorpusHeader : DataFileHeader {
  TokenizerInfo tokenizer;
  std::vector<std::string> splits;  // names; the split numbers of the spool index them
};

// Throws Error{data} when `path` exists and overwrite is off (check early with refuse_existing), Error{io} for failed
// writes; then nothing is left but a file that was there before. Returns the uuid.
std::string write_corpus(const std::string& path, const CorpusHeader& header, TokenSpool& spool);

}  // namespace farsight
