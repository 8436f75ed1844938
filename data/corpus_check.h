// SPDX-License-Identifier: Apache-2.0
// Limits of what a corpus may claim, checked before any allocation and again by whoever receives a descriptor.
#pragma once

#include "data/array_check.h"
#include "data/corpus.h"

namespace farsight {

inline constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
inline constexpr int64_t kMaxTokenizerJson = int64_t{64} << 20;

// Throws Error{data} unless every array lies inside a file of corpus.file_bytes and all numbers are within the limits.
void check_descriptor(const CorpusDescriptor& corpus);

}  // namespace farsight
