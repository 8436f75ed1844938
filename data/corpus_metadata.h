// SPDX-License-Identifier: Apache-2.0
// What an open file of kind "tokens" says it holds: see describe_corpus.
#pragma once

#include "data/corpus.h"
#include "data/file_metadata.h"

namespace farsight {

// Untrusted until check_descriptor has seen it; without heads and sidecar.
CorpusDescriptor parse_corpus(const OpenDataFile& opened);

}  // namespace farsight
