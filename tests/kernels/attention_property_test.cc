// SPDX-License-Identifier: Apache-2.0
// Random joint configurations of every policy against the dense fp64 oracle.
#include <gtest/gtest.h>

#include "tests/kernels/attention_case.h"

namespace farsight::testing {
namespace {

constexpr double kForwardTolerance = 2e-6;
constexpr double kGradientTolerance = 1e-5;

void expect_oracle(uint64_t seed, int64_t max_tokens) {
  const auto c = random_case(seed, max_tokens);
  const auto errors = compare_with_oracle(c, run_blocks(c));
  const auto repeat = [&] {
    return "repeat: attention_fuzz --seed " + std::to_string(seed) + " --tokens " + std::to_string(max_tokens) +
           " --count 1   (" + describe(c) + ")";
  };
  EXPECT_LE(errors.forward, kForwardTolerance) << repeat();
  EXPECT_LE(errors.backward, kGradientTolerance) << repeat();
}

TEST(AttentionBlocks, EqualTheOracleOnRandomSmallConfigurations) {
  for (uint64_t seed = 1000; seed < 1200; ++seed) expect_oracle(seed, 24);
}

TEST(AttentionBlocks, EqualTheOracleOnRandomLargerConfigurations) {
  for (uint64_t seed = 2000; seed < 2020; ++seed) expect_oracle(seed, 230);
}

}  // namespace
}  // namespace farsight::testing
