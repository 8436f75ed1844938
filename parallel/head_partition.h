// SPDX-License-Identifier: Apache-2.0
// Which heads each rank of a ulysses group computes. Arithmetic only, the same on all ranks.
//   Hkv >= u  whole groups of query heads with their key head, balanced: 8 heads over 3 ranks are 3, 3, 2
//   Hkv < u   query heads balanced. A key head goes to every rank that has one of its queries; where a rank's share
//             takes unequal numbers of queries from several groups, each query head gets a copy of its key head
// so that the number of query heads per key head is uniform on each rank, as the attention kernel needs.
// Source: parallelism specification, section 10.
#pragma once

#include <cstdint>
#include <vector>

namespace farsight {

struct HeadShare {
  int64_t first_head = 0, heads = 0;  // query heads [first_head, first_head + heads)
  std::vector<int64_t> key_heads;     // which key heads it needs, in order; a divisor of `heads` many, may repeat
  bool operator==(const HeadShare&) const = default;
};

// Share of each of `ranks` ranks. Throws Error{config} naming both numbers if there are more ranks than query heads,
// Error{internal} unless kv_heads divides heads.
std::vector<HeadShare> partition_heads(int64_t heads, int64_t kv_heads, int64_t ranks);

}  // namespace farsight
