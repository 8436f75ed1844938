// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu.h"

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Swiglu : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Swiglu, ::testing::ValuesIn(targets()), target_name);

Vec oracle(const Vec& x, size_t rows, size_t width) {
  Vec y;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < width; ++c) {
      const double a = x[r * 2 * width + c], up = x[r * 2 * width + width + c];
      y.push_back(a / (1.0 + std::exp(-a)) * up);
    }
  }
  return y;
}

TEST_P(Swiglu, ValuesAndGradientsEqualFp64Oracle) {
  for (const auto& [rows, width, margin] : {std::tuple{1, 1, 0}, {3, 17, 0}, {5, 32, 2}, {2, 37, 1}}) {
    const Vec xv = random_vec(1, rows * 2 * width, 2.0), dy = random_vec(2, rows * width);
    const auto r = static_cast<size_t>(rows), w = static_cast<size_t>(width);
    Tape tape;
    const Var x = tape.input(to_tensor(xv, {rows, 2 * width}, margin), true);
    const Var y = swiglu(tape, x);
    expect_close(to_vec(y.value()), oracle(xv, r, w), 1e-6, "y");
    const Var again = swiglu(tape, x);  // the second contribution is added
    tape.backward(weighted_sum(tape, {y, again}, {dy, dy}));
    Vec expected = numeric_gradient([&](const Vec& v) { return 2.0 * dot(oracle(v, r, w), dy); }, xv);
    expect_close(to_vec(x.grad()), expected, 1e-5, "dx");
  }
}

TEST_P(Swiglu, StaysFiniteForLargeInputs) {
  Tape tape;
  const Var x = tape.input(to_tensor({-1e30, -200.0, -88.0, 88.0, 200.0, 1e30, 1, 1, 1, 1, 1, 1}, {1, 12}), true);
  const Var y = swiglu(tape, x);
  const Vec v = to_vec(y.value());
  EXPECT_EQ(v[0], 0.0);
  EXPECT_EQ(v[5], rounded(1e30));
  EXPECT_NEAR(v[2], 0.0, 1e-30);
  EXPECT_EQ(v[4], 200.0);
  tape.backward(weighted_sum(tape, {y}, {Vec(6, 1.0)}));
  const Vec g = to_vec(x.grad());
  EXPECT_EQ(g[0], 0.0);
  EXPECT_EQ(g[5], 1.0);
}

TEST(SwigluShape, OddWidthIsRefused) {
  Tape tape;
  EXPECT_THROW(swiglu(tape, tape.input(Tensor::zeros({2, 3}))), Error);
}

}  // namespace
}  // namespace farsight
