// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.h"

#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"
#include "data/corpus_check.h"
#include "data/file.h"
#include "data/sha256.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kFingerprintDigits = 16;

// Contractions, runs of spaces and line ends, numbers with signs, accents composed and combining, CJK, emoji, Cyrillic,
// a no-break space, Arabic digits, and a special string that is ordinary text.
constexpr std::string_view kFingerprintText(
    "Hello  world\r\n\n\t'tis it's 3.14e-5 \xe2\x80\x94 na\xc3\xafve caf"
    "e\xcc\x81 \xe6\x97\xb6\xe9\x97\xb4\xe5\xba\x8f\xe5\x88\x97 \xf0\x9f\x99\x82 \xd0\x97\xd0\xb4\xd1\x80\xd0\xb0\xd0"
    "\xb2\xc2\xa0\xd9\xa0\xd9\xa1 <|endoftext|>  ");

}  // namespace

std::string_view fingerprint_text() { return kFingerprintText; }

std::vector<uint32_t> encode(Tokenizer& tokenizer, std::string_view text) {
  std::vector<uint32_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

std::string decode(const Tokenizer& tokenizer, std::span<const uint32_t> ids) {
  std::string bytes;
  for (const uint32_t id : ids) tokenizer.decode(id, bytes);
  return bytes;
}

std::string tokenizer_fingerprint(Tokenizer& tokenizer) {
  const std::vector<uint32_t> ids = encode(tokenizer, kFingerprintText);
  Sha256 hash;
  for (const uint32_t id : ids) {
    const unsigned char bytes[4] = {static_cast<unsigned char>(id), static_cast<unsigned char>(id >> 8),
                                    static_cast<unsigned char>(id >> 16), static_cast<unsigned char>(id >> 24)};
    hash.update(bytes, sizeof(bytes));
  }
  return hash.hex().substr(0, kFingerprintDigits);
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& specification) {
  constexpr std::string_view kGpt2 = "gpt2:", kBpe = "bpe:";
  if (specification == "byte") return make_byte_tokenizer();
  if (specification.starts_with(kGpt2)) {
    return make_bpe_tokenizer(load_gpt2_vocabulary(specification.substr(kGpt2.size())));
  }
  if (specification.starts_with(kBpe)) {
    const std::string path = specification.substr(kBpe.size());
    return make_bpe_tokenizer(parse_tokenizer_json(read_whole(path, kMaxTokenizerJson), path));
  }
  fail(ErrorKind::usage, "unknown tokenizer '{}'; use byte, gpt2:DIR, bpe:FILE or (in data text) train:SIZE",
       specification);
}

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerInfo& info) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (info.type == "byte") {
    tokenizer = make_byte_tokenizer();
  } else if (info.type == "bpe") {
    tokenizer = make_bpe_tokenizer(parse_tokenizer_json(info.json, "/tokenizer/json"));
  } else {
    fail(ErrorKind::data, "tokenizer of type '{}'; this build knows byte and bpe", info.type);
  }
  if (tokenizer->info().fingerprint != info.fingerprint || tokenizer->info().vocab_size != info.vocab_size) {
    fail(ErrorKind::data,
         "the tokenizer cuts text differently from the one that made the file: fingerprint {} with {} ids, the file "
         "says {} with {}; prepare the data again with this build",
         tokenizer->info().fingerprint, tokenizer->info().vocab_size, info.fingerprint, info.vocab_size);
  }
  return tokenizer;
}

}  // namespace farsight
