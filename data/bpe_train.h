// SPDX-License-Identifier: Apache-2.0
// Training of a byte-pair vocabulary: the most frequent adjacent pair becomes a token, again and again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace farsight {

// Pre-tokens with how often they occur.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using PretokenCounts = std::unordered_map<std::string, int64_t, StringHash, std::equal_to<>>;

// Adds the pre-tokens of a text.
void count_pretokens(std::string_view text, PretokenCounts& counts);
void add_counts(const PretokenCounts& from, PretokenCounts& to);

// At most `merges` merges of ids (bytes 0..255, then 256, 257, ... in order). Each takes the pair with the highest
// count; ties go to the smaller left id, then the smaller right id; occurrences are replaced from the left. Ends early
// when the best count is below 2. Depends on the counts only.
std::vector<std::pair<uint32_t, uint32_t>> train_bpe(const PretokenCounts& counts, int64_t merges);

}  // namespace farsight
