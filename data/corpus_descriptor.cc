// SPDX-License-Identifier: Apache-2.0
// The flat form of descriptors: little-endian integers, strings and lists preceded by their length.
#include <cstring>

#include "data/corpus.h"
#include "data/corpus_check.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr uint64_t kMagic = 0x3130637364736661;  // "afsdsc01"

// One function per type describes both directions, so they cannot disagree.
class Writer {
 public:
  void number(uint64_t value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value)); }
  void field(const std::string& value) {
    number(value.size());
    bytes_ += value;
  }
  template <typename T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void field(const T& value) { number(static_cast<uint64_t>(value)); }
  template <typename T, typename Each>
  void list(const std::vector<T>& values, Each each) {
    number(values.size());
    for (const T& value : values) each(*this, value);
  }
  template <typename T, typename Each>
  void maybe(const std::optional<T>& value, Each each) {
    number(value.has_value() ? 1 : 0);
    if (value) each(*this, *value);
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  uint64_t number() {
    uint64_t value = 0;
    std::memcpy(&value, bytes(sizeof(value)).data(), sizeof(value));
    return value;
  }
  void field(std::string& value) { value = std::string(bytes(number())); }
  template <typename T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void field(T& value) { value = static_cast<T>(number()); }
  template <typename T, typename Each>
  void list(std::vector<T>& values, Each each) {
    const uint64_t count = number();
    if (count > rest_.size()) refuse();  // every element takes at least one byte
    values.assign(count, T{});
    for (T& value : values) each(*this, value);
  }
  template <typename T, typename Each>
  void maybe(std::optional<T>& value, Each each) {
    value.reset();
    if (number() != 0) each(*this, value.emplace());
  }
  void expect_end() const {
    if (!rest_.empty()) refuse();
  }
  [[noreturn]] static void refuse() { fail(ErrorKind::internal, "corpus descriptor: the bytes are not a descriptor"); }

 private:
  std::string_view bytes(uint64_t count) {
    if (count > rest_.size()) refuse();
    const std::string_view found = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return found;
  }
  std::string_view rest_;
};

constexpr auto kPlain = [](auto& stream, auto& value) { stream.field(value); };

constexpr auto kArray = [](auto& stream, auto& array) {
  stream.field(array.path);
  stream.field(array.width);
  stream.field(array.is_signed);
  stream.field(array.size);
  stream.field(array.storage);
  stream.field(array.offset);
  stream.field(array.chunk);
  stream.list(array.chunk_offsets, kPlain);
  stream.field(array.head);
  stream.maybe(array.content_xxh3, kPlain);
};

constexpr auto kSplit = [](auto& stream, auto& split) {
  stream.field(split.name);
  kArray(stream, split.tokens);
  stream.maybe(split.doc_offsets, kArray);
  stream.maybe(split.loss_mask, kArray);
  stream.field(split.bytes_of_text);
};

constexpr auto kCorpus = [](auto& stream, auto& corpus) {
  stream.field(corpus.file);
  stream.field(corpus.file_bytes);
  stream.field(corpus.uuid);
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
  stream.field(corpus.licence);
  stream.list(corpus.source_names, kPlain);
  stream.field(corpus.normalised);
  stream.field(corpus.sidecar);
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
  Writer writer;
  writer.number(kMagic);
  kCorpus(writer, *this);
  return writer.take();
}

CorpusDescriptor CorpusDescriptor::from_bytes(std::string_view bytes) {
  Reader reader(bytes);
  if (reader.number() != kMagic) Reader::refuse();
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
