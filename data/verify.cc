// SPDX-License-Identifier: Apache-2.0
#include "data/verify.h"

#include <algorithm>

#include "data/array_reader.h"
#include "data/file.h"
#include "data/tokenizer.h"
#include "data/verify_arrays.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kBlock = 1 << 18;  // elements read at once

class CorpusVerifier {
 public:
  explicit CorpusVerifier(const CorpusDescriptor& corpus) : corpus_(corpus), arrays_(corpus) {}

  CorpusReport run() {
    make_tokenizer(corpus_.tokenizer);
    for (const SplitDescriptor& split : corpus_.splits) verify_split(split);
    static_cast<VerifyReport&>(report_) = arrays_.report();
    return report_;
  }

 private:
  void verify_split(const SplitDescriptor& split) {
    IntegerArray tokens = open(split.tokens);
    check_tokens(tokens);
    if (split.doc_offsets) {
      IntegerArray offsets = open(*split.doc_offsets);
      check_offsets(offsets, split.tokens.size);
    }
    if (split.loss_mask) arrays_.check_hash(*split.loss_mask);
  }

  IntegerArray open(const ArrayDescriptor& array) {
    arrays_.check_hash(array);
    return {arrays_.file(), array, DataIo::pread};
  }

  template <typename Visit>
  static void each_block(const IntegerArray& array, Visit visit) {
    for (int64_t begin = 0; begin < array.size(); begin += kBlock) visit(begin, std::min(kBlock, array.size() - begin));
  }

  void check_tokens(IntegerArray& tokens) {
    std::vector<int32_t> ids(kBlock);
    each_block(tokens, [&](int64_t begin, int64_t count) {
      tokens.read_tokens(begin, std::span(ids).first(static_cast<size_t>(count)), corpus_.tokenizer.vocab_size);
    });
    report_.tokens += tokens.size();
  }

  void check_offsets(IntegerArray& offsets, int64_t tokens) {
    std::vector<int64_t> block(kBlock);
    int64_t previous = -1;
    each_block(offsets, [&](int64_t begin, int64_t count) {
      const auto values = std::span(block).first(static_cast<size_t>(count));
      offsets.read(begin, values);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t value = values[static_cast<size_t>(i)];
        check_offset(offsets.descriptor().path, begin + i, previous, value);
        previous = value;
      }
    });
    if (previous != tokens) {
      fail(ErrorKind::data, "{}: '{}' ends with {} at index {}, {} tokens need {}", corpus_.file,
           offsets.descriptor().path, previous, with_commas(offsets.size() - 1), tokens, tokens);
    }
    report_.documents += offsets.size() - 1;
  }

  void check_offset(const std::string& path, int64_t index, int64_t previous, int64_t value) const {
    if (index == 0 && value != 0) {
      fail(ErrorKind::data, "{}: '{}' begins with {} at index 0, 0 is needed", corpus_.file, path, value);
    }
    if (value > previous) return;
    fail(ErrorKind::data, "{}: '{}' does not increase at index {}: {} after {}", corpus_.file, path, with_commas(index),
         value, previous);
  }

  const CorpusDescriptor& corpus_;
  ArrayVerifier arrays_;
  CorpusReport report_;
};

}  // namespace

CorpusReport verify_corpus(const CorpusDescriptor& corpus) { return CorpusVerifier(corpus).run(); }

CorpusReport verify_corpus(const std::string& path, const ProbeLimits& limits) {
  return verify_corpus(probe_corpus(path, limits));
}

SeriesReport verify_series(const std::string& path, const ProbeLimits& limits) {
  return verify_series(probe_series(path, limits));
}

DataReport verify_data(const std::string& path, const ProbeLimits& limits) {
  const DataDescriptor found = probe_data(path, limits);
  if (const auto* series = std::get_if<SeriesDescriptor>(&found)) return verify_series(*series);
  return verify_corpus(std::get<CorpusDescriptor>(found));
}

}  // namespace farsight
