// SPDX-License-Identifier: Apache-2.0
#include "parallel/head_partition.h"

#include <algorithm>

#include "kernels/error.h"

namespace farsight {

namespace {

// First of n items that share i of `shares` takes; the first n % shares take one more than the others.
int64_t share_begin(int64_t n, int64_t i, int64_t shares) { return n / shares * i + std::min(i, n % shares); }

HeadShare whole_groups(int64_t first_group, int64_t groups, int64_t ratio) {
  HeadShare share{first_group * ratio, groups * ratio, {}};
  for (int64_t g = 0; g < groups; ++g) share.key_heads.push_back(first_group + g);
  return share;
}

HeadShare part_of_groups(int64_t first_head, int64_t heads, int64_t ratio) {
  HeadShare share{first_head, heads, {}};
  std::vector<int64_t> expanded, queries;  // key head of each query head; query heads of each key head
  for (int64_t h = first_head; h < first_head + heads; ++h) {
    expanded.push_back(h / ratio);
    if (share.key_heads.empty() || share.key_heads.back() != h / ratio) {
      share.key_heads.push_back(h / ratio);
      queries.push_back(0);
    }
    ++queries.back();
  }
  const bool uniform = std::all_of(queries.begin(), queries.end(), [&](int64_t n) { return n == queries.front(); });
  if (!uniform) share.key_heads = expanded;
  return share;
}

}  // namespace

std::vector<HeadShare> partition_heads(int64_t heads, int64_t kv_heads, int64_t ranks) {
  if (heads < 1 || kv_heads < 1 || heads % kv_heads != 0 || ranks < 1) {
    fail(ErrorKind::internal, "head partition: {} heads with {} key heads over {} ranks", heads, kv_heads, ranks);
  }
  if (ranks > heads) {
    fail(ErrorKind::config,
         "ulysses attention over {} ranks needs at least one query head for each, but a rank has {} (after the split "
         "of parallel.tensor); take a smaller parallel.ulysses and a larger parallel.ring",
         ranks, heads);
  }
  const int64_t ratio = heads / kv_heads;
  std::vector<HeadShare> shares;
  for (int64_t i = 0; i < ranks; ++i) {
    const bool groups = kv_heads >= ranks;
    const int64_t items = groups ? kv_heads : heads;
    const int64_t begin = share_begin(items, i, ranks), count = share_begin(items, i + 1, ranks) - begin;
    shares.push_back(groups ? whole_groups(begin, count, ratio) : part_of_groups(begin, count, ratio));
  }
  return shares;
}

}  // namespace farsight
