// SPDX-License-Identifier: Apache-2.0
#include "data/byte_tokenizer.h"

#include "kernels/error.h"

namespace farsight {

namespace {

constexpr uint32_t kEndOfDocument = 256, kBegin = 257, kPad = 258, kVocabulary = 259;

class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    info_ = {.type = "byte",
             .vocab_size = kVocabulary,
             .bos_id = kBegin,
             .eos_id = kEndOfDocument,
             .pad_id = kPad,
             .unk_id = -1,
             .pretokenizer = "",
             .fingerprint = "",
             .json = ""};
    info_.fingerprint = tokenizer_fingerprint(*this);
  }

  void encode(std::string_view text, std::vector<uint32_t>& ids) override {
    const size_t first = ids.size();
    ids.resize(first + text.size());
    for (size_t i = 0; i < text.size(); ++i) ids[first + i] = static_cast<uint8_t>(text[i]);
  }

  void decode(uint32_t id, std::string& bytes) const override {
    switch (id) {
      case kEndOfDocument:
        bytes += "<|eod|>";
        return;
      case kBegin:
        bytes += "<|bos|>";
        return;
      case kPad:
        bytes += "<|pad|>";
        return;
      default:
        break;
    }
    if (id >= kVocabulary) fail(ErrorKind::data, "token id {} is outside the byte vocabulary of {}", id, kVocabulary);
    bytes += static_cast<char>(id);
  }

  std::unique_ptr<Tokenizer> clone() const override { return std::make_unique<ByteTokenizer>(*this); }
  const TokenizerInfo& info() const override { return info_; }
  size_t safe_prefix(std::string_view text) const override { return text.size(); }

 private:
  TokenizerInfo info_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace farsight
