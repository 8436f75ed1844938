// SPDX-License-Identifier: Apache-2.0
#include "data/corpus_writer.h"

#include <vector>

#include "data/hdf5.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kOffsetBatch = 1 << 16;

uint64_t write_tokens(const h5::Context& context, hid_t group, const CorpusHeader& header, TokenSpool& spool,
                      int split) {
  const SpoolTotals& totals = spool.totals()[static_cast<size_t>(split)];
  ArrayWriter tokens(context, group, "tokens", spool.width() == 2 ? H5T_STD_U16LE : H5T_STD_U32LE,
                     ArrayWriter::Extent{.size = totals.tokens, .compress = header.compress});
  h5::write_int(context, tokens.id(), "num_documents", totals.documents);
  h5::write_int(context, tokens.id(), "bytes_of_text", totals.bytes);
  spool.each_piece(split, [&](const void* data, int64_t count) { tokens.append(data, count); });
  return tokens.finish();
}

uint64_t write_offsets(const h5::Context& context, hid_t group, const CorpusHeader& header, TokenSpool& spool,
                       int split) {
  const SpoolTotals& totals = spool.totals()[static_cast<size_t>(split)];
  ArrayWriter offsets(context, group, "doc_offsets", H5T_STD_I64LE,
                      ArrayWriter::Extent{.size = totals.documents + 1, .compress = header.compress});
  std::vector<int64_t> batch = {0};
  int64_t end = 0;
  spool.each_document(split, [&](const SpoolDocument& document) {
    batch.push_back(end += document.tokens);
    if (batch.size() < kOffsetBatch) return;
    offsets.append(batch.data(), static_cast<int64_t>(batch.size()));
    batch.clear();
  });
  if (!batch.empty()) offsets.append(batch.data(), static_cast<int64_t>(batch.size()));
  return offsets.finish();
}

uint64_t write_sources(const h5::Context& context, hid_t group, const CorpusHeader& header, TokenSpool& spool,
                       int split) {
  ArrayWriter sources(context, group, "doc_source", H5T_STD_I32LE,
                      {.size = spool.totals()[static_cast<size_t>(split)].documents, .compress = header.compress});
  std::vector<int32_t> batch;
  const auto flush = [&] {
    if (!batch.empty()) sources.append(batch.data(), static_cast<int64_t>(batch.size()));
    batch.clear();
  };
  spool.each_document(split, [&](const SpoolDocument& document) {
    batch.push_back(document.source);
    if (batch.size() >= kOffsetBatch) flush();
  });
  flush();
  return sources.finish();
}

std::string write_tokenizer(const h5::Context& context, hid_t file, const TokenizerInfo& info) {
  const h5::Handle group = h5::create_group(context, file, "tokenizer");
  h5::write_string(context, group.get(), "type", info.type);
  h5::write_int(context, group.get(), "vocab_size", info.vocab_size);
  h5::write_int(context, group.get(), "bos_id", info.bos_id);
  h5::write_int(context, group.get(), "eos_id", info.eos_id);
  h5::write_int(context, group.get(), "pad_id", info.pad_id);
  h5::write_int(context, group.get(), "unk_id", info.unk_id);
  h5::write_string(context, group.get(), "pretokenizer", info.pretokenizer);
  h5::write_string(context, group.get(), "fingerprint", info.fingerprint);
  if (info.json.empty()) return "";
  ArrayWriter json(context, group.get(), "json", H5T_STD_U8LE, {.size = static_cast<int64_t>(info.json.size())});
  json.append(info.json.data(), static_cast<int64_t>(info.json.size()));
  return fmt::format("{:016x}", json.finish());
}

// Returns the hashes of the content as text.
std::string write_splits(const h5::Context& context, hid_t file, const CorpusHeader& header, TokenSpool& spool) {
  std::string content;
  for (size_t i = 0; i < header.splits.size(); ++i) {
    const int split = static_cast<int>(i);
    const h5::Handle group = h5::create_group(context, file, header.splits[i]);
    content += fmt::format("{} {:016x}", header.splits[i], write_tokens(context, group.get(), header, spool, split));
    content += fmt::format(" {:016x}", write_offsets(context, group.get(), header, spool, split));
    if (header.source_names.size() > 1) {
      content += fmt::format(" {:016x}", write_sources(context, group.get(), header, spool, split));
    }
    content += '\n';
  }
  return content;
}

}  // namespace

std::string write_corpus(const std::string& path, const CorpusHeader& header, TokenSpool& spool) {
  return write_data_file(path, header, "tokens", [&](const h5::Context& context, hid_t file) {
    return header.tokenizer.fingerprint + write_tokenizer(context, file, header.tokenizer) + "\n" +
           write_splits(context, file, header, spool);
  });
}

}  // namespace farsight
