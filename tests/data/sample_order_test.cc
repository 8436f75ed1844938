// SPDX-License-Identifier: Apache-2.0
#include "data/sample_order.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"

namespace farsight {
namespace {

std::vector<int64_t> first_of(int64_t n, uint64_t key, int64_t count) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(permute(n, key, i));
  return values;
}

TEST(SampleOrder, ReproducesTheVectorsOfTheSpecification) {
  EXPECT_EQ(permutation_key(42, 0, 0), 0x55417331f90c3204U);
  EXPECT_EQ(permutation_key(42, 0, 1), 0x2b2fbcc3bde9946fU);
  EXPECT_EQ(permutation_key(42, 1, 0), 0xcc17a74ea256aebfU);
  EXPECT_EQ(first_of(10, permutation_key(42, 0, 0), 10), (std::vector<int64_t>{1, 8, 4, 3, 6, 0, 9, 5, 7, 2}));
  EXPECT_EQ(first_of(10, permutation_key(42, 0, 1), 10), (std::vector<int64_t>{9, 5, 7, 0, 4, 3, 1, 6, 2, 8}));
  EXPECT_EQ(first_of(10, permutation_key(42, 1, 0), 10), (std::vector<int64_t>{6, 2, 8, 9, 3, 5, 4, 1, 7, 0}));
  EXPECT_EQ(first_of(1000003, permutation_key(42, 0, 0), 6),
            (std::vector<int64_t>{738375, 263586, 277794, 902115, 110372, 22706}));
}

void expect_bijection(int64_t n) {
  std::vector<bool> seen(static_cast<size_t>(n), false);
  const uint64_t key = permutation_key(7, 0, static_cast<uint64_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t image = permute(n, key, i);
    ASSERT_TRUE(image >= 0 && image < n && !seen[static_cast<size_t>(image)]) << n << " " << i;
    seen[static_cast<size_t>(image)] = true;
  }
}

TEST(SampleOrder, VisitsEverySampleOnceInAnEpoch) {
  for (int64_t n = 1; n <= 300; ++n) expect_bijection(n);
  for (const int64_t n : {4096, 4097, 1'000'000}) expect_bijection(n);
}

// (first, second) image over many seeds against the uniform distribution on ordered pairs.
TEST(SampleOrder, NeighbouringPairsAreUniform) {
  constexpr int64_t kSeeds = FARSIGHT_SEEDS;
  for (int64_t n = 3; n <= 16; ++n) {
    std::vector<int64_t> counts(static_cast<size_t>(n * n), 0);
    for (int64_t seed = 0; seed < kSeeds; ++seed) {
      const uint64_t key = permutation_key(static_cast<uint64_t>(seed), 0, 0);
      ++counts[static_cast<size_t>(permute(n, key, 0) * n + permute(n, key, 1))];
    }
    const auto cells = static_cast<double>(n * (n - 1));
    const double expected = static_cast<double>(kSeeds) / cells;
    double chi2 = 0;
    for (int64_t cell = 0; cell < n * n; ++cell) {
      const auto count = static_cast<double>(counts[static_cast<size_t>(cell)]);
      if (cell / n == cell % n) {
        ASSERT_EQ(count, 0);
      } else {
        chi2 += (count - expected) * (count - expected) / expected;
      }
    }
    const double freedom = cells - 1;
    EXPECT_LT(std::abs(chi2 - freedom) / std::sqrt(2 * freedom), 4.0) << "n = " << n;
  }
}

TEST(SampleOrder, EpochsDifferAndTheNumberNeverRestarts) {
  const SampleOrder order(50, 3, Shuffle::samples);
  int equal = 0;
  for (int64_t g = 0; g < 50; ++g) equal += order.sample(g) == order.sample(g + 50) ? 1 : 0;
  EXPECT_LT(equal, 10);
  EXPECT_EQ(order.epoch(149), 2);
  const SampleOrder plain(50, 3, Shuffle::none);
  for (int64_t g = 0; g < 150; ++g) EXPECT_EQ(plain.sample(g), g % 50);
}

TEST(SampleOrder, RefusesEmptyData) { EXPECT_THROW(SampleOrder(0, 1, Shuffle::samples), Error); }

}  // namespace
}  // namespace farsight
