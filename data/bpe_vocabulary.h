// SPDX-License-Identifier: Apache-2.0
// A byte-level BPE vocabulary and its files: GPT-2's encoder.json + vocab.bpe, and tokenizer.json in the widespread
// form (model.vocab, model.merges, added_tokens; bytes written as printable characters).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace farsight {

inline constexpr const char* kEndOfText = "<|endoftext|>";

struct BpeVocabulary {
  std::vector<std::string> tokens;                    // bytes of every id; the name of a special one
  std::vector<std::pair<uint32_t, uint32_t>> merges;  // pairs of ids, lowest rank first
  std::vector<uint32_t> products;                     // id that merge number i gives
  std::vector<uint32_t> specials;                     // ids that no text is encoded to, rising
  std::array<uint32_t, 256> byte_ids{};

  int64_t end_of_text() const;  // id of <|endoftext|>, -1 without
};

// All bytes, the merges in order (ids 256, 257, ...), and <|endoftext|> as the last id: own vocabularies.
BpeVocabulary make_vocabulary(const std::vector<std::pair<uint32_t, uint32_t>>& merges);

// These throw Error{data} naming the file and what is wrong: not JSON, ids not 0..V-1, unknown or repeated tokens, a
// merge of something that does not exist before it, another kind of model.
BpeVocabulary load_gpt2_vocabulary(const std::string& folder);
BpeVocabulary parse_tokenizer_json(const std::string& text, const std::string& name);

std::string to_tokenizer_json(const BpeVocabulary& vocabulary);
std::string to_vocab_json(const BpeVocabulary& vocabulary);   // {"token": id}
std::string to_merges_text(const BpeVocabulary& vocabulary);  // "#version: 0.2", then one pair a line

}  // namespace farsight
