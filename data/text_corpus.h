// SPDX-License-Identifier: Apache-2.0
// `farsight data text`: text files and JSONL to a corpus of token ids. Streaming: memory does not grow with the input;
// the output depends on inputs and options alone, not on threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/document_splitter.h"
#include "data/split_rule.h"
#include "data/text_normaliser.h"
#include "data/tokenizer.h"

namespace farsight {

struct TextOptions {
  std::vector<std::string> inputs;  // .gz and .zst are decompressed; .jsonl, .ndjson hold a document on each line
  std::string output;
  std::string tokenizer = "byte";
  DocumentMode document = DocumentMode::file;
  std::string separator = {};
  std::string field = "text";  // JSONL: the string that is the document
  std::string split = "1";
  SplitBy by = SplitBy::document;
  bool eod = false;
  bool raw = false;
  InvalidUtf8 invalid_utf8 = InvalidUtf8::error;
  bool skip_empty = false;
  int threads = 1;
  std::string licence = {};
  std::string tool = {}, command = {};  // provenance
  bool reproducible = false, compress = false, overwrite = false;
};

struct TextProgress {
  const char* phase = "";  // "counting" | "training" | "tokenising" | "writing"
  int64_t documents = 0, tokens = 0, text_bytes = 0;
  int64_t read_bytes = 0, total_bytes = 0;  // of the input files in this phase
};

struct SplitReport {
  std::string name;
  int64_t documents = 0, tokens = 0, bytes = 0;
};

struct TextReport {
  std::string uuid, fingerprint, normalised;
  int64_t vocab_size = 0;
  int64_t skipped = 0;  // empty documents left out
  std::vector<SplitReport> splits;
};

// Throws Error{usage} for bad options, Error{data} listing what is wrong with the input, Error{io}. Nothing is left
// under the output's name after an error. `progress` is called from the calling thread, often.
TextReport write_text_corpus(const TextOptions& options, const std::function<void(const TextProgress&)>& progress);

// Trains options.tokenizer ("train:SIZE": 256 bytes, merges, <|endoftext|>; fewer when no pair is left) on the first
// split of the inputs. The same errors; `output` is named in messages only.
std::unique_ptr<Tokenizer> train_tokenizer(const TextOptions& options,
                                           const std::function<void(const TextProgress&)>& progress);

// Whether a file holds one JSON object per line, by its name.
bool is_json_lines(const std::string& path);

}  // namespace farsight
