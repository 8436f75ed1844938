// SPDX-License-Identifier: Apache-2.0
#include "parallel/head_partition.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "kernels/error.h"

namespace farsight {
namespace {

// Whatever the sizes: every query head has one rank, and the kernel's rule (query head i uses key head i / ratio)
// leads to the key head of the whole model.
TEST(HeadPartition, KeepsEveryQueryHeadWithItsKeyHead) {
  for (int64_t kv_heads = 1; kv_heads <= 12; ++kv_heads) {
    for (int64_t ratio = 1; ratio <= 6; ++ratio) {
      const int64_t heads = kv_heads * ratio;
      for (int64_t ranks = 1; ranks <= std::min<int64_t>(heads, 16); ++ranks) {
        int64_t next = 0;
        for (const HeadShare& share : partition_heads(heads, kv_heads, ranks)) {
          ASSERT_EQ(share.first_head, next);
          ASSERT_GE(share.heads, 1);
          const auto keys = static_cast<int64_t>(share.key_heads.size());
          ASSERT_EQ(share.heads % keys, 0);
          for (int64_t i = 0; i < share.heads; ++i) {
            ASSERT_EQ(share.key_heads[static_cast<size_t>(i / (share.heads / keys))], (next + i) / ratio)
                << heads << "/" << kv_heads << " over " << ranks;
          }
          next += share.heads;
        }
        ASSERT_EQ(next, heads);
      }
    }
  }
}

TEST(HeadPartition, IsBalanced) {
  for (int64_t ranks = 1; ranks <= 12; ++ranks) {
    for (const int64_t kv_heads : {1, 2, 3, 12}) {
      const auto shares = partition_heads(12, kv_heads, ranks);
      const auto [least, most] = std::minmax_element(
          shares.begin(), shares.end(), [](const HeadShare& a, const HeadShare& b) { return a.heads < b.heads; });
      EXPECT_LE(most->heads - least->heads, kv_heads >= ranks ? 12 / kv_heads : 1) << kv_heads << " over " << ranks;
    }
  }
}

// Without a reason for copies no key head is sent twice to one rank.
TEST(HeadPartition, SharesOfTheSpecification) {
  EXPECT_EQ(partition_heads(8, 8, 3), (std::vector<HeadShare>{{0, 3, {0, 1, 2}}, {3, 3, {3, 4, 5}}, {6, 2, {6, 7}}}));
  EXPECT_EQ(partition_heads(8, 4, 2), (std::vector<HeadShare>{{0, 4, {0, 1}}, {4, 4, {2, 3}}}));
  EXPECT_EQ(partition_heads(8, 2, 4), (std::vector<HeadShare>{{0, 2, {0}}, {2, 2, {0}}, {4, 2, {1}}, {6, 2, {1}}}));
  EXPECT_EQ(partition_heads(8, 2, 3), (std::vector<HeadShare>{{0, 3, {0}}, {3, 3, {0, 1, 1}}, {6, 2, {1}}}));
  EXPECT_EQ(partition_heads(12, 2, 3), (std::vector<HeadShare>{{0, 4, {0}}, {4, 4, {0, 1}}, {8, 4, {1}}}));
  EXPECT_EQ(partition_heads(3, 1, 3), (std::vector<HeadShare>{{0, 1, {0}}, {1, 1, {0}}, {2, 1, {0}}}));
}

TEST(HeadPartition, RefusesMoreRanksThanHeadsByName) {
  try {
    partition_heads(4, 2, 6);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::config);
    EXPECT_NE(std::string(e.what()).find("6 ranks"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("has 4"), std::string::npos) << e.what();
  }
  EXPECT_THROW(partition_heads(8, 3, 2), Error);
}

}  // namespace
}  // namespace farsight
