// SPDX-License-Identifier: Apache-2.0
#include "data/verify.h"

#include <algorithm>
#include <memory>

#include <xxhash.h>

#include "data/array_reader.h"
#include "data/file.h"
#include "data/sidecar.h"
#include "data/tokenizer.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kBlock = 1 << 18;  // elements read at once

class Verifier {
 public:
  Verifier(const std::string& path, const ProbeLimits& limits)
      : corpus_(probe_corpus(path, limits)), file_(File::open_read(path)) {}

  VerifyReport run() {
    if (path_exists(sidecar_path(corpus_.file))) {
      verify_sidecar(corpus_.file, corpus_.uuid);
      report_.sidecar = true;
    }
    make_tokenizer(corpus_.tokenizer);
    for (const SplitDescriptor& split : corpus_.splits) verify_split(split);
    return report_;
  }

 private:
  void verify_split(const SplitDescriptor& split) {
    IntegerArray tokens = open(split.tokens);
    check_hash(tokens);
    check_tokens(tokens);
    if (split.doc_offsets) {
      IntegerArray offsets = open(*split.doc_offsets);
      check_hash(offsets);
      check_offsets(offsets, split.tokens.size);
    }
    if (split.loss_mask) {
      IntegerArray mask = open(*split.loss_mask);
      check_hash(mask);
    }
  }

  IntegerArray open(const ArrayDescriptor& array) const {
    if (array.storage == Storage::library && !report_.sidecar) {
      fail(ErrorKind::data, "{}: '{}' can only be read through libhdf5, and there is no {}.sum to vouch for it",
           corpus_.file, array.path, corpus_.file);
    }
    return {file_, array, DataIo::pread};
  }

  template <typename Visit>
  static void each_block(const IntegerArray& array, Visit visit) {
    for (int64_t begin = 0; begin < array.size(); begin += kBlock) visit(begin, std::min(kBlock, array.size() - begin));
  }

  void check_hash(IntegerArray& array) {
    const ArrayDescriptor& descriptor = array.descriptor();
    if (!descriptor.content_xxh3) {
      report_.unhashed.push_back(descriptor.path);
      return;
    }
    const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
    XXH3_64bits_reset(state.get());
    each_block(array, [&](int64_t begin, int64_t count) {
      XXH3_64bits_update(state.get(), array.load(begin, count), static_cast<size_t>(count * descriptor.width));
    });
    const uint64_t found = XXH3_64bits_digest(state.get());
    if (found != *descriptor.content_xxh3) {
      fail(ErrorKind::data, "{}: '{}' has content hash {:016x}, {:016x} expected: damaged or edited", corpus_.file,
           descriptor.path, found, *descriptor.content_xxh3);
    }
    ++report_.hashed;
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

  CorpusDescriptor corpus_;
  File file_;
  VerifyReport report_;
};

}  // namespace

VerifyReport verify_corpus(const std::string& path, const ProbeLimits& limits) { return Verifier(path, limits).run(); }

}  // namespace farsight
