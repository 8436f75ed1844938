// SPDX-License-Identifier: Apache-2.0
// Cuts text into the pieces inside which byte pairs are merged, exactly as the pattern of GPT-2 does (leftmost
// alternative first):
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// A hand-written scanner over committed tables: std::regex has no \p{L}, and tables of another Unicode version would
// cut differently without notice. Bytes that are not UTF-8 count as characters that are neither letter, number nor
// space.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace farsight {

// End of the pre-token that begins at `begin` < text.size(), as if `text` ended where it does.
size_t pretoken_end(std::string_view text, size_t begin);

// Largest position before which the text can be cut for certain, whatever follows; 0 when there is none. Pre-tokens of
// the two parts are then those of the whole.
size_t last_certain_cut(std::string_view text);

// "gpt2, Unicode 15.0"
std::string pretokenizer_name();

}  // namespace farsight
