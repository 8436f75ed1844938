// SPDX-License-Identifier: Apache-2.0
#include "data/corpus_check.h"

#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

void check_offsets(const CorpusDescriptor& corpus, const SplitDescriptor& split) {
  const ArrayDescriptor& offsets = *split.doc_offsets;
  check_array(corpus, offsets);
  if (offsets.size < 2 || offsets.size > split.tokens.size + 1) {
    fail(ErrorKind::data, "{}: '{}' has {} entries for {} tokens; one more than documents is needed", corpus.file,
         offsets.path, offsets.size, split.tokens.size);
  }
}

void check_mask(const CorpusDescriptor& corpus, const SplitDescriptor& split) {
  const ArrayDescriptor& mask = *split.loss_mask;
  check_array(corpus, mask);
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
    check_array(corpus, split.tokens);
    if (split.doc_offsets) check_offsets(corpus, split);
    if (split.loss_mask) check_mask(corpus, split);
  }
}

}  // namespace farsight
