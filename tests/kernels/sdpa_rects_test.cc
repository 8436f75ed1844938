// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/sdpa_rects.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention/sdpa_cuda.h"

namespace farsight {
namespace {

using Runs = std::vector<PositionRun>;

TEST(PositionRuns, AreTheLongestFromTheBeginning) {
  const std::vector<int32_t> zigzag{4, 5, 6, 17, 18, 19}, striped{1, 4, 7, 10}, one{5};
  EXPECT_EQ(position_runs(zigzag), (Runs{{3, 4, 1}, {3, 17, 1}}));
  EXPECT_EQ(position_runs(striped), (Runs{{4, 1, 3}}));
  EXPECT_EQ(position_runs(one), (Runs{{1, 5, 1}}));
  EXPECT_TRUE(position_runs({}).empty());
}

std::vector<int64_t> positions_of(const Runs& runs) {
  std::vector<int64_t> positions;
  for (const auto& run : runs) {
    for (int64_t i = 0; i < run.rows; ++i) positions.push_back(run.first + i * run.step);
  }
  return positions;
}

bool visible(const MaskRule& rule, int64_t distance) { return distance >= rule.low && distance <= rule.high; }
bool visible(const SdpaRect& rect, int64_t i, int64_t j) {
  const int64_t distance = i + rect.shift - j;
  return (rect.low <= -kSdpaNoHigh || distance >= rect.low) && (rect.high == kSdpaNoHigh || distance <= rect.high);
}

// Every visible pair lies in exactly one rectangle, and is visible there; no other is.
void expect_cover(const MaskRule& rule, const Runs& queries, const Runs& keys) {
  const auto rects = sdpa_rects(rule, queries, keys);
  ASSERT_TRUE(rects.has_value());
  const auto q = positions_of(queries), k = positions_of(keys);
  std::vector<int> seen(q.size() * k.size(), 0);
  for (const SdpaRect& rect : *rects) {
    ASSERT_GE(rect.query, 0);
    ASSERT_GE(rect.key, 0);
    ASSERT_LE(rect.query + rect.queries, static_cast<int64_t>(q.size()));
    ASSERT_LE(rect.key + rect.keys, static_cast<int64_t>(k.size()));
    for (int64_t i = 0; i < rect.queries; ++i) {
      bool any = false;
      for (int64_t j = 0; j < rect.keys; ++j) {
        if (!visible(rect, i, j)) continue;
        any = true;
        ++seen[static_cast<size_t>(rect.query + i) * k.size() + static_cast<size_t>(rect.key + j)];
      }
      EXPECT_TRUE(any) << "query " << i << " sees no key";
    }
  }
  for (size_t i = 0; i < q.size(); ++i) {
    for (size_t j = 0; j < k.size(); ++j) {
      ASSERT_EQ(seen[i * k.size() + j], visible(rule, q[i] - k[j]) ? 1 : 0) << q[i] << " " << k[j];
    }
  }
}

MaskRule random_rule(std::mt19937& random) {
  AttentionSpec spec;
  spec.causal = random() % 3 != 0;
  if (random() % 2 == 0) spec.window_left = static_cast<int32_t>(random() % 20);
  if (random() % 3 == 0) spec.window_right = static_cast<int32_t>(random() % 20);
  return MaskRule(spec);
}

TEST(SdpaRects, CoverTheMaskOnce) {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    const int64_t step = 1 + static_cast<int64_t>(random() % 4);
    const auto runs = [&] {
      Runs made;
      int64_t next = static_cast<int64_t>(random() % 40);
      for (uint64_t r = 0; r < 1 + random() % 2; ++r) {
        const int64_t rows = 1 + static_cast<int64_t>(random() % 12);
        made.push_back({rows, next, rows == 1 ? 1 : step});
        next += rows * step + 1 + static_cast<int64_t>(random() % 30);
      }
      return made;
    };
    const MaskRule rule = random_rule(random);
    expect_cover(rule, runs(), runs());
    if (HasFatalFailure()) FAIL() << "round " << round;
  }
}

TEST(SdpaRects, AreRefusedForStepsThatDiffer) {
  const MaskRule causal{AttentionSpec{}};
  EXPECT_FALSE(sdpa_rects(causal, Runs{{4, 0, 1}}, Runs{{4, 0, 2}}).has_value());
  EXPECT_FALSE(sdpa_rects(causal, Runs(9, {2, 50, 1}), Runs{{4, 0, 1}}).has_value());
  EXPECT_TRUE(sdpa_rects(causal, Runs{{4, 0, 1}}, Runs{{4, 9, 1}})->empty());
}

}  // namespace
}  // namespace farsight
