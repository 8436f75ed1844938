// SPDX-License-Identifier: Apache-2.0
// The oracle's own proof: analytic gradients against central differences, both in fp64.
#include "tests/kernels/attention_oracle.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/kernels/attention_case.h"

namespace farsight::testing {
namespace {

double objective(const AttentionCase& c) {
  const auto f = dense_forward(c.dense);
  double loss = 0.0;
  for (size_t i = 0; i < f.out.size(); ++i) loss += c.dout[i] * f.out[i];
  for (size_t r = 0; r < f.lse.size(); ++r) {
    if (std::isfinite(f.lse[r])) loss += c.grad_lse[r] * f.lse[r] + c.grad_entropy[r] * f.entropy[r];
  }
  return loss;
}

void expect_central_differences(AttentionCase& c, std::vector<double>& input, const std::vector<double>& gradient,
                                const char* name) {
  constexpr double kStep = 1e-4;
  for (size_t i = 0; i < input.size(); i += std::max<size_t>(1, input.size() / 12)) {
    const double value = input[i];
    input[i] = value + kStep;
    const double up = objective(c);
    input[i] = value - kStep;
    const double down = objective(c);
    input[i] = value;
    const double expected = (up - down) / (2.0 * kStep);
    EXPECT_NEAR(gradient[i], expected, 1e-6 * std::max(1.0, std::abs(expected)))
        << name << "[" << i << "] " << describe(c);
  }
}

TEST(AttentionOracle, GradientsAreCentralDifferences) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    auto c = random_case(seed, 9);
    const auto g = dense_backward(c.dense, dense_forward(c.dense), c.dout, c.grad_lse, c.grad_entropy);
    expect_central_differences(c, c.dense.q, g.dq, "q");
    expect_central_differences(c, c.dense.k, g.dk, "k");
    expect_central_differences(c, c.dense.v, g.dv, "v");
    if (c.dense.spec.score == AttentionScore::additive) expect_central_differences(c, c.dense.y, g.dy, "y");
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

// Row identity T0f: the score gradients of a row sum to its upstream LSE gradient, whatever the policies.
TEST(AttentionOracle, ScoreGradientsOfARowSumToItsLseGradient) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const auto c = random_case(seed, 40);
    const auto forward = dense_forward(c.dense);
    const auto g = dense_backward(c.dense, forward, c.dout, c.grad_lse, c.grad_entropy);
    for (size_t r = 0; r < forward.lse.size(); ++r) {
      const double expected = std::isfinite(forward.lse[r]) ? c.grad_lse[r] : 0.0;
      ASSERT_NEAR(g.score_sum[r], expected, 1e-12) << "seed " << seed << " row " << r;
    }
  }
}

// Weights of x = (1, 2, 3) with itself as queries and keys of width 1, published to four digits.
TEST(AttentionOracle, ReproducesPublishedSoftmaxRows) {
  DenseAttention a;
  a.spec.causal = false;
  a.queries = a.keys = 3;
  a.q = a.k = a.v = {1, 2, 3};
  a.query_positions = a.key_positions = {0, 1, 2};
  const auto f = dense_forward(a);
  const double expected[3][3] = {{.0900, .2447, .6652}, {.0159, .1173, .8668}, {.0024, .0473, .9503}};
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(std::exp(f.s[i * 3 + j] - f.lse[i]), expected[i][j], 5e-5);
  }
}

}  // namespace
}  // namespace farsight::testing
