// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back. Every tokeniser here is byte-level: any input has an encoding, and decoding gives exactly
// the bytes that were encoded.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus.h"

namespace farsight {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Appends the ids of `text` to `ids`. Special strings inside the text are ordinary text. Not thread safe (there is a
  // cache of pre-tokens): one clone() per thread.
  virtual void encode(std::string_view text, std::vector<uint32_t>& ids) = 0;
  // Appends the bytes of one id; special ids append their name ("<|endoftext|>"). Error{data} for an unknown id.
  virtual void decode(uint32_t id, std::string& bytes) const = 0;
  // A tokeniser with the same tables (shared, read only) and its own cache.
  virtual std::unique_ptr<Tokenizer> clone() const = 0;
  // type, vocabulary size, special ids, pretokenizer, fingerprint, json.
  virtual const TokenizerInfo& info() const = 0;
  // Largest prefix of `text` that may be encoded alone without changing the ids of what follows; 0 when none is known.
  virtual size_t safe_prefix(std::string_view text) const = 0;
};

std::vector<uint32_t> encode(Tokenizer& tokenizer, std::string_view text);
std::string decode(const Tokenizer& tokenizer, std::span<const uint32_t> ids);

// From "byte", "gpt2:DIR" (encoder.json, vocab.bpe), or "bpe:FILE" (tokenizer.json written by `data tokenizer train`).
// Throws Error{usage} for another specification, Error{data} naming file and reason for a bad vocabulary.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& specification);
// From what a corpus stores. Throws Error{data} when the rebuilt tokeniser has another fingerprint than the file says.
std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerInfo& info);

// First 16 hex digits of SHA-256 over the ids (uint32 little-endian) of a fixed 102-byte string. Two tokenisers with
// the same fingerprint cut text alike; a mismatch between corpus and model is an error.
std::string tokenizer_fingerprint(Tokenizer& tokenizer);
// The fixed string.
std::string_view fingerprint_text();

}  // namespace farsight
