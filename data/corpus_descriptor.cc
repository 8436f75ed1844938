// SPDX-License-Identifier: Apache-2.0
#include "data/corpus.h"
#include "data/descriptor_bytes.h"

namespace farsight {

namespace {

constexpr uint64_t kMagic = 0x3230637364736661;  // "afsdsc02"

constexpr auto kSplit = [](auto& stream, auto& split) {
  stream.field(split.name);
  kArrayFields(stream, split.tokens);
  stream.maybe(split.doc_offsets, kArrayFields);
  stream.maybe(split.loss_mask, kArrayFields);
  stream.field(split.bytes_of_text);
};

constexpr auto kCorpus = [](auto& stream, auto& corpus) {
  kInfoFields(stream, corpus);
  auto& tokenizer = corpus.tokenizer;
  stream.field(tokenizer.type);
  stream.field(tokenizer.vocab_size);
  stream.field(tokenizer.bos_id);
  stream.field(tokenizer.eos_id);
  stream.field(tokenizer.pad_id);
  stream.field(tokenizer.unk_id);
  stream.field(tokenizer.pretokenizer);
  stream.field(tokenizer.fingerprint);
  stream.field(tokenizer.json);
  stream.list(corpus.splits, kSplit);
};

}  // namespace

const SplitDescriptor* CorpusDescriptor::find(std::string_view split) const {
  for (const SplitDescriptor& candidate : splits) {
    if (candidate.name == split) return &candidate;
  }
  return nullptr;
}

std::string CorpusDescriptor::to_bytes() const {
  DescriptorWriter writer;
  writer.number(kMagic);
  kCorpus(writer, *this);
  return writer.take();
}

CorpusDescriptor CorpusDescriptor::from_bytes(std::string_view bytes) {
  DescriptorReader reader(bytes);
  if (reader.number() != kMagic) DescriptorReader::refuse();
  CorpusDescriptor corpus;
  kCorpus(reader, corpus);
  reader.expect_end();
  return corpus;
}

int64_t total_size(std::span<const PositionRange> ranges) {
  int64_t total = 0;
  for (const PositionRange& range : ranges) total += range.size();
  return total;
}

}  // namespace farsight
