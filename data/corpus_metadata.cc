// SPDX-License-Identifier: Apache-2.0
#include "data/corpus_metadata.h"

#include "data/array_check.h"
#include "data/array_metadata.h"
#include "data/corpus_check.h"
#include "kernels/error.h"

namespace farsight {

namespace {

class CorpusParser {
 public:
  explicit CorpusParser(const OpenDataFile& opened) : context_(opened.context), root_(opened.root.get()) {
    static_cast<DataFileInfo&>(corpus_) = opened.info;
  }

  CorpusDescriptor run() {
    parse_tokenizer(root_);
    for (const char* name : {"train", "valid", "test"}) {
      if (h5::has_link(context_, root_, name)) parse_split(root_, name);
    }
    if (corpus_.splits.empty()) fail(ErrorKind::data, "{}: has no split 'train', 'valid' or 'test'", corpus_.file);
    return std::move(corpus_);
  }

 private:
  void parse_tokenizer(hid_t root) {
    if (!h5::has_link(context_, root, "tokenizer")) fail(ErrorKind::data, "{}: no group '/tokenizer'", corpus_.file);
    const h5::Handle group = h5::open_group(context_, root, "tokenizer");
    TokenizerInfo& info = corpus_.tokenizer;
    info.type = h5::read_string(context_, group.get(), "type").value_or("");
    info.vocab_size = h5::read_int(context_, group.get(), "vocab_size").value_or(0);
    info.bos_id = h5::read_int(context_, group.get(), "bos_id").value_or(-1);
    info.eos_id = h5::read_int(context_, group.get(), "eos_id").value_or(-1);
    info.pad_id = h5::read_int(context_, group.get(), "pad_id").value_or(-1);
    info.unk_id = h5::read_int(context_, group.get(), "unk_id").value_or(-1);
    info.pretokenizer = h5::read_string(context_, group.get(), "pretokenizer").value_or("");
    info.fingerprint = h5::read_string(context_, group.get(), "fingerprint").value_or("");
    if (h5::has_link(context_, group.get(), "json")) info.json = parse_json(group.get());
  }

  std::string parse_json(hid_t group) {
    const h5::Handle dataset = h5::open_dataset(context_, group, "json");
    const ArrayDescriptor array =
        describe_array(context_, dataset.get(), ArrayForm::integers, "/tokenizer/json", corpus_.file_bytes);
    if (array.size > kMaxTokenizerJson || array.width != 1) {
      fail(ErrorKind::data, "{}: '/tokenizer/json' has {} elements of {} bytes; at most 64 MiB of bytes are accepted",
           corpus_.file, array.size, array.width);
    }
    std::string json(static_cast<size_t>(array.size), '\0');
    context_.ok(H5Dread(dataset.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, json.data()), "/tokenizer/json",
                "cannot read");
    return json;
  }

  void parse_split(hid_t root, const std::string& name) {
    const h5::Handle group = h5::open_group(context_, root, name);
    const std::string prefix = "/" + name + "/";
    if (!h5::has_link(context_, group.get(), "tokens")) {
      fail(ErrorKind::data, "{}: no dataset '{}tokens'", corpus_.file, prefix);
    }
    SplitDescriptor split;
    split.name = name;
    const h5::Handle tokens = h5::open_dataset(context_, group.get(), "tokens");
    split.tokens = describe_array(context_, tokens.get(), ArrayForm::integers, prefix + "tokens", corpus_.file_bytes);
    split.bytes_of_text = h5::read_int(context_, tokens.get(), "bytes_of_text").value_or(-1);
    split.doc_offsets = optional_array(group.get(), "doc_offsets", prefix);
    split.loss_mask = optional_array(group.get(), "loss_mask", prefix);
    corpus_.splits.push_back(std::move(split));
  }

  std::optional<ArrayDescriptor> optional_array(hid_t group, const std::string& name, const std::string& prefix) {
    if (!h5::has_link(context_, group, name)) return std::nullopt;
    const h5::Handle dataset = h5::open_dataset(context_, group, name);
    return describe_array(context_, dataset.get(), ArrayForm::integers, prefix + name, corpus_.file_bytes);
  }

  const h5::Context& context_;
  hid_t root_;
  CorpusDescriptor corpus_;
};

}  // namespace

CorpusDescriptor parse_corpus(const OpenDataFile& opened) { return CorpusParser(opened).run(); }

}  // namespace farsight
