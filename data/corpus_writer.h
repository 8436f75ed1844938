// SPDX-License-Identifier: Apache-2.0
// Writes a corpus of kind "tokens" (corpus_format.md) with its checksum file. The file appears under its name only when
// it is complete: it is written as FOLDER/.NAME.tmp-UUID, closed, synced, and renamed after its checksum file.
#pragma once

#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/token_spool.h"

namespace farsight {

struct CorpusHeader {
  TokenizerInfo tokenizer;
  std::string tool, command, licence, normalised;
  std::vector<std::string> source_names, source_sha256;
  std::vector<std::string> splits;  // names; the split numbers of the spool index them
  bool reproducible = false;        // uuid and time derive from the content
  bool compress = false;            // chunks with shuffle and deflate: for archives
  bool overwrite = false;
};

// Throws Error{data} when `path` exists and overwrite is off (check early with refuse_existing), Error{io} for failed
// writes; then nothing is left but a file that was there before. Returns the uuid.
std::string write_corpus(const std::string& path, const CorpusHeader& header, TokenSpool& spool);

// Error{data} naming --overwrite when `path` exists.
void refuse_existing(const std::string& path, bool overwrite);

}  // namespace farsight
