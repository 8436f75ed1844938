// SPDX-License-Identifier: Apache-2.0
#include "kernels/random.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <xxhash.h>

namespace farsight {
namespace {

// Known answers published with Random123 for Philox4x32-10.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox(0, {0, 0, 0, 0}), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox(~uint64_t{0}, {ones, ones, ones, ones}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Key words in order: a4093822, 299f31d0.
  EXPECT_EQ(philox(0x299f31d0a4093822, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Hash64, IsXxh3OfLittleEndianFields) {
  const uint64_t fields[] = {1, 0x0203040506070809, 3};
  std::string bytes;
  for (const uint64_t f : fields) {
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(f >> (8 * i)));
  }
  EXPECT_EQ(hash64(fields), XXH3_64bits(bytes.data(), bytes.size()));
}

TEST(Keys, EveryFieldMatters) {
  const uint64_t base = site_key(1, 2, 3, 4, Site::embedding);
  EXPECT_NE(base, site_key(9, 2, 3, 4, Site::embedding));
  EXPECT_NE(base, site_key(1, 9, 3, 4, Site::embedding));
  EXPECT_NE(base, site_key(1, 2, 9, 4, Site::embedding));
  EXPECT_NE(base, site_key(1, 2, 3, 9, Site::embedding));
  EXPECT_NE(base, site_key(1, 2, 3, 4, Site::attention));
  EXPECT_NE(init_key(1, "a"), init_key(2, "a"));
  EXPECT_NE(init_key(1, "a"), init_key(1, "b"));
}

TEST(DropoutThreshold, IsTheFloorOfPTimesTwoTo32) {
  EXPECT_EQ(dropout_threshold(0.0), 0U);
  EXPECT_EQ(dropout_threshold(0.5), 0x80000000U);
  EXPECT_EQ(dropout_threshold(0.1), 429496729U);
}

struct Moments {
  double mean = 0.0, variance = 0.0, skew = 0.0, kurtosis = 0.0;
};

template <class Draw>
Moments moments(const Draw& draw, uint64_t n) {
  Moments m;
  for (uint64_t i = 0; i < n; ++i) m.mean += draw(i) / static_cast<double>(n);
  for (uint64_t i = 0; i < n; ++i) {
    const double d = draw(i) - m.mean;
    m.variance += d * d / static_cast<double>(n);
    m.skew += d * d * d / static_cast<double>(n);
    m.kurtosis += d * d * d * d / static_cast<double>(n);
  }
  return m;
}

// Standard errors of n = 1e5 normal draws: mean 1/sqrt(n), variance sqrt(2/n), third sqrt(15/n), fourth sqrt(96/n).
TEST(NormalVariate, FirstFourMomentsAreWithinFourSigma) {
  const double n = 1e5;
  const Moments m = moments([](uint64_t i) { return normal_variate(7, i); }, 100000);
  EXPECT_NEAR(m.mean, 0.0, 4.0 / std::sqrt(n));
  EXPECT_NEAR(m.variance, 1.0, 4.0 * std::sqrt(2.0 / n));
  EXPECT_NEAR(m.skew, 0.0, 4.0 * std::sqrt(15.0 / n));
  EXPECT_NEAR(m.kurtosis, 3.0, 4.0 * std::sqrt(96.0 / n));
}

TEST(UniformVariate, LiesInTheUnitIntervalWithItsMoments) {
  const double n = 1e5;
  const Moments m = moments([](uint64_t i) { return uniform_variate(7, i); }, 100000);
  EXPECT_NEAR(m.mean, 0.5, 4.0 * std::sqrt(1.0 / 12.0 / n));
  EXPECT_NEAR(m.variance, 1.0 / 12.0, 4.0 * std::sqrt(1.0 / 180.0 / n));
  for (uint64_t i = 0; i < 1000; ++i) {
    EXPECT_GE(uniform_variate(3, i), 0.0);
    EXPECT_LT(uniform_variate(3, i), 1.0);
  }
}

TEST(Variates, IndicesBeyond32BitsAreDistinct) {
  EXPECT_NE(uniform_variate(1, 5), uniform_variate(1, 5 + (uint64_t{1} << 32)));
  EXPECT_NE(normal_variate(1, 5), normal_variate(2, 5));
}

}  // namespace
}  // namespace farsight
