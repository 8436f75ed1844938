// SPDX-License-Identifier: Apache-2.0
// Random joint configurations of every policy against the dense fp64 oracle.
#include <memory>

#include <gtest/gtest.h>

#include "kernels/attention/block_cuda.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "tests/kernels/attention_case.h"
#include "tests/sanitized.h"

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

// The tile kernels of the device. bf16: inputs are exact, weights and results are rounded to 8 bits.
class AttentionOnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
    device_ = std::make_unique<CudaDevice>(0);
    scope_ = std::make_unique<CudaScope>(*device_);
  }

  static void expect_oracle(uint64_t seed, int64_t max_tokens, DType type) {
    auto c = random_case(seed, max_tokens, kCudaAttentionWidth);
    if (type == DType::bf16) round_values(c);
    const auto errors = compare_with_oracle(c, run_blocks(c, type));
    const bool half = type == DType::bf16;
    EXPECT_LE(errors.forward, half ? 0.008 : 3e-6) << "seed " << seed << " " << to_string(type) << " " << describe(c);
    EXPECT_LE(errors.backward, half ? 0.02 : 1e-5) << "seed " << seed << " " << to_string(type) << " " << describe(c);
  }

 private:
  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<CudaScope> scope_;
};

TEST_F(AttentionOnDevice, EqualsTheOracleOnRandomSmallConfigurations) {
  for (uint64_t seed = 1000; seed < (kSanitized ? 1006 : 1024); ++seed) {
    expect_oracle(seed, 24, DType::f32);
    expect_oracle(seed, 24, DType::bf16);
  }
}

TEST_F(AttentionOnDevice, EqualsTheOracleOnRandomLargerConfigurations) {
  if (kSanitized) return;  // sizes alone are new
  for (uint64_t seed = 2000; seed < 2003; ++seed) {
    expect_oracle(seed, 230, DType::f32);
    expect_oracle(seed, 230, DType::bf16);
  }
}

// Many more tiles than a row sees: the search passes groups of them, before, between and behind the visible ones.
TEST_F(AttentionOnDevice, EqualsTheOracleWhereMostTilesAreEmpty) {
  if (kSanitized) return;
  DenseAttention a;
  a.queries = a.keys = 2500;
  a.width = a.value_width = 4;
  a.spec.window_left = 40;
  a.query_documents.assign(2500, 0);
  for (int32_t p = 0; p < 2500; ++p) a.query_positions.push_back(p < 1200 ? p : p < 1900 ? p + 5000 : p - 700);
  a.key_documents = a.query_documents;
  a.key_positions = a.query_positions;
  for (const DType type : {DType::f32, DType::bf16}) {
    auto c = filled_case(a, 3);
    if (type == DType::bf16) round_values(c);
    const auto errors = compare_with_oracle(c, run_blocks(c, type));
    EXPECT_LE(errors.forward, type == DType::bf16 ? 0.008 : 3e-6) << to_string(type);
    EXPECT_LE(errors.backward, type == DType::bf16 ? 0.02 : 1e-5) << to_string(type);
  }
}

}  // namespace
}  // namespace farsight::testing
