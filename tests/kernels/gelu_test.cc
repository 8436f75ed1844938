// SPDX-License-Identifier: Apache-2.0
#include "kernels/gelu.h"

#include <numbers>

#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Gelu : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Gelu, ::testing::ValuesIn(targets()), target_name);

Vec oracle(const Vec& x) {
  Vec y;
  for (const double v : x) {
    y.push_back(0.5 * v * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (v + 0.044715 * v * v * v))));
  }
  return y;
}

TEST_P(Gelu, ValuesAndGradientsEqualFp64Oracle) {
  for (const auto& [rows, width, margin] : {std::tuple{1, 1, 0}, {3, 17, 0}, {5, 32, 2}, {2, 37, 1}}) {
    const Vec xv = random_vec(1, rows * width, 2.0), dy = random_vec(2, rows * width);
    Tape tape;
    const Var x = tape.input(to_tensor(xv, {rows, width}, margin), true);
    const Var y = gelu(tape, x), again = gelu(tape, x);
    expect_close(to_vec(y.value()), oracle(xv), 1e-6, "y");
    tape.backward(weighted_sum(tape, {y, again}, {dy, dy}));
    const Vec expected = numeric_gradient([&](const Vec& v) { return 2.0 * dot(oracle(v), dy); }, xv);
    expect_close(to_vec(x.grad()), expected, 1e-5, "dx");
  }
}

// The error of each value on a grid, relative to |x|: the activation of small negative numbers must not lose digits.
TEST_P(Gelu, ErrorIsWithinFourRoundingsEverywhere) {
  Vec grid;
  for (int i = -4000; i <= 4000; ++i) grid.push_back(rounded(i / 256.0));
  Tape tape;
  const Vec y = to_vec(gelu(tape, tape.input(to_tensor(grid, {1, 8001}))).value()), expected = oracle(grid);
  const double error = element() == DType::bf16 ? 0x1p-8 : 2.4e-7;
  for (size_t i = 0; i < grid.size(); ++i) {
    EXPECT_NEAR(y[i], expected[i], error * std::max(std::abs(grid[i]), 1e-3)) << grid[i];
  }
}

}  // namespace
}  // namespace farsight
