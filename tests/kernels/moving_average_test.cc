// SPDX-License-Identifier: Apache-2.0
#include "kernels/moving_average.h"

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class MovingAverage : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, MovingAverage, ::testing::ValuesIn(targets()), target_name);

Vec oracle(const Vec& x, int64_t length, int64_t kernel) {
  Vec y;
  for (int64_t r = 0; r < static_cast<int64_t>(x.size()) / length; ++r) {
    for (int64_t t = 0; t < length; ++t) {
      double sum = 0.0;
      for (int64_t d = -(kernel / 2); d <= kernel / 2; ++d) {
        sum += x[static_cast<size_t>(r * length + std::clamp<int64_t>(t + d, 0, length - 1))];
      }
      y.push_back(sum / static_cast<double>(kernel));
    }
  }
  return y;
}

TEST_P(MovingAverage, ValuesAndGradientsEqualFp64Oracle) {
  for (const auto& [rows, length, kernel, margin] :
       {std::tuple{3, 37, 5, 0}, {2, 40, 25, 2}, {4, 7, 25, 1}, {2, 1, 3, 0}, {3, 19, 1, 0}, {1, 2, 5, 0}}) {
    const Vec xv = random_vec(1, rows * length), dy = random_vec(2, rows * length);
    Tape tape;
    const Var x = tape.input(to_tensor(xv, {rows, length}, margin), true);
    const Var y = moving_average(tape, x, kernel), again = moving_average(tape, x, kernel);
    expect_close(to_vec(y.value()), oracle(xv, length, kernel), 1e-6, "y");
    tape.backward(weighted_sum(tape, {y, again}, {dy, dy}));
    const auto loss = [&, n = length, k = kernel](const Vec& v) { return 2.0 * dot(oracle(v, n, k), dy); };
    expect_close(to_vec(x.grad()), numeric_gradient(loss, xv, 0.5), 1e-6, "dx");
  }
}

TEST_P(MovingAverage, BitsDoNotDependOnTheThreadCount) {
  const Vec xv = random_vec(1, 70 * 90), dy = random_vec(2, 70 * 90);
  const auto run = [&] {
    Tape tape;
    const Var x = tape.input(to_tensor(xv, {70, 90}), true);
    const Var y = moving_average(tape, x, 25);
    const Vec values = to_vec(y.value());
    tape.backward(weighted_sum(tape, {y}, {dy}));
    return std::vector<Vec>{values, to_vec(x.grad())};
  };
  EXPECT_EQ(with_threads(1, run), with_threads(2, run));
}

TEST(MovingAverageShape, EvenKernelsAreRefused) {
  Tape tape;
  const Var x = tape.input(Tensor::zeros({2, 4}));
  EXPECT_THROW(moving_average(tape, x, 4), Error);
  EXPECT_THROW(moving_average(tape, x, 0), Error);
}

}  // namespace
}  // namespace farsight
