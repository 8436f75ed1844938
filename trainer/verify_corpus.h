// SPDX-License-Identifier: Apache-2.0
// Random tokens for checks that need some data and no meaning: when a configuration is verified before its data exist.
#pragma once

#include <cstdint>
#include <string>

#include "data/corpus.h"

namespace farsight {

// A corpus in a temporary folder that goes with the object: split "train" of `tokens` ids below `vocab`, small ids more
// often, in documents of some `document` tokens on average, one token in eight no target. The same for equal arguments.
// Error{io} when the temporary folder cannot be written.
class RandomCorpus {
 public:
  struct Shape {
    int64_t vocab = 0;
    int64_t tokens = 0;
    int64_t document = 0;
  };
  explicit RandomCorpus(const Shape& shape);
  ~RandomCorpus();
  RandomCorpus(const RandomCorpus&) = delete;
  RandomCorpus& operator=(const RandomCorpus&) = delete;

  const CorpusDescriptor& descriptor() const { return descriptor_; }

 private:
  std::string folder_;
  CorpusDescriptor descriptor_;
};

}  // namespace farsight
