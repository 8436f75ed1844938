// SPDX-License-Identifier: Apache-2.0
#include "data/corpus_check.h"

#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

class ArrayCheck {
 public:
  ArrayCheck(const CorpusDescriptor& corpus, const ArrayDescriptor& array) : corpus_(corpus), array_(array) {}

  void run() const {
    if (array_.width != 1 && array_.width != 2 && array_.width != 4 && array_.width != 8) {
      refuse(fmt::format("elements of {} bytes; 1, 2, 4 or 8 are accepted", array_.width));
    }
    if (array_.size < 0 || array_.size > kMaxExtent) refuse(fmt::format("an extent of {}", array_.size));
    const int64_t factor = array_.storage == Storage::library ? kMaxExpansion : 1;
    if (array_.size * array_.width / factor > corpus_.file_bytes) {
      refuse(fmt::format("{} bytes of data in a file of {} bytes", with_commas(array_.size * array_.width),
                         with_commas(corpus_.file_bytes)));
    }
    if (array_.storage == Storage::contiguous) check_range(array_.offset, array_.size * array_.width);
    if (array_.storage == Storage::chunked) check_chunks();
    if (array_.storage == Storage::library && array_.chunk != 0) check_chunk_size();
    if (array_.storage > Storage::library) refuse("of an unknown storage");
    if (array_.head.size() > kHeadBytes) refuse("a head of more than 64 bytes");
  }

 private:
  void check_range(int64_t offset, int64_t bytes) const {
    if (array_.size == 0) return;
    if (offset < 0 || offset > corpus_.file_bytes || bytes > corpus_.file_bytes - offset) {
      refuse(fmt::format("bytes {}..{} of a file of {} bytes", with_commas(offset), with_commas(offset + bytes),
                         with_commas(corpus_.file_bytes)));
    }
  }

  void check_chunk_size() const {
    if (array_.chunk < 1 || array_.chunk > kMaxChunkBytes / array_.width) {
      refuse(fmt::format("chunks of {} elements", array_.chunk));
    }
  }

  void check_chunks() const {
    check_chunk_size();
    const int64_t expected = (array_.size + array_.chunk - 1) / array_.chunk;
    if (static_cast<int64_t>(array_.chunk_offsets.size()) != expected) {
      refuse(fmt::format("{} chunks where {} are needed", array_.chunk_offsets.size(), expected));
    }
    for (const int64_t offset : array_.chunk_offsets) check_range(offset, array_.chunk * array_.width);
  }

  [[noreturn]] void refuse(const std::string& what) const {
    fail(ErrorKind::data, "{}: '{}' claims {}: damaged or hostile file", corpus_.file, array_.path, what);
  }

  const CorpusDescriptor& corpus_;
  const ArrayDescriptor& array_;
};

void check_offsets(const CorpusDescriptor& corpus, const SplitDescriptor& split) {
  const ArrayDescriptor& offsets = *split.doc_offsets;
  ArrayCheck(corpus, offsets).run();
  if (offsets.size < 2 || offsets.size > split.tokens.size + 1) {
    fail(ErrorKind::data, "{}: '{}' has {} entries for {} tokens; one more than documents is needed", corpus.file,
         offsets.path, offsets.size, split.tokens.size);
  }
}

void check_mask(const CorpusDescriptor& corpus, const SplitDescriptor& split) {
  const ArrayDescriptor& mask = *split.loss_mask;
  ArrayCheck(corpus, mask).run();
  if (mask.size != split.tokens.size || mask.width != 1) {
    fail(ErrorKind::data, "{}: '{}' has {} elements of {} bytes, '{}' has {}; one byte per token is needed",
         corpus.file, mask.path, mask.size, mask.width, split.tokens.path, split.tokens.size);
  }
}

}  // namespace

void check_descriptor(const CorpusDescriptor& corpus) {
  const TokenizerInfo& tokenizer = corpus.tokenizer;
  if (tokenizer.vocab_size < 1 || tokenizer.vocab_size > kMaxVocabulary) {
    fail(ErrorKind::data, "{}: '/tokenizer': vocab_size is {}; 1 to {} are accepted", corpus.file, tokenizer.vocab_size,
         kMaxVocabulary);
  }
  for (const int64_t id : {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id}) {
    if (id >= -1 && id < tokenizer.vocab_size) continue;
    fail(ErrorKind::data, "{}: '/tokenizer': special id {} is outside the vocabulary of {}", corpus.file, id,
         tokenizer.vocab_size);
  }
  for (const SplitDescriptor& split : corpus.splits) {
    ArrayCheck(corpus, split.tokens).run();
    if (split.doc_offsets) check_offsets(corpus, split);
    if (split.loss_mask) check_mask(corpus, split);
  }
}

}  // namespace farsight
