// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding: the UTF-8 bytes of every pre-token, the adjacent pair of lowest rank merged until none is ranked.
#pragma once

#include <memory>

#include "data/bpe_vocabulary.h"
#include "data/tokenizer.h"

namespace farsight {

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeVocabulary vocabulary);

}  // namespace farsight
