// SPDX-License-Identifier: Apache-2.0
// One id per byte: 0..255 the bytes, 256 end of document, 257 beginning, 258 padding. Any input is valid.
#pragma once

#include <memory>

#include "data/tokenizer.h"

namespace farsight {

std::unique_ptr<Tokenizer> make_byte_tokenizer();

}  // namespace farsight
