// SPDX-License-Identifier: Apache-2.0
#include "kernels/patches.h"

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Patches : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Patches, ::testing::ValuesIn(targets()), target_name);

struct Case {
  int64_t rows, length, patch, stride, pad, margin, count;
};

// Extends each row first and cuts it then.
Vec oracle(const Vec& x, const Case& c) {
  Vec y;
  for (int64_t r = 0; r < c.rows; ++r) {
    Vec row(x.begin() + r * c.length, x.begin() + (r + 1) * c.length);
    for (int64_t i = 0; i < c.pad; ++i) row.push_back(row.back());
    for (int64_t n = 0; n * c.stride + c.patch <= c.length + c.pad; ++n) {
      y.insert(y.end(), row.begin() + n * c.stride, row.begin() + n * c.stride + c.patch);
    }
  }
  return y;
}

TEST_P(Patches, ValuesAndGradientsEqualTheOracle) {
  for (const Case& c : {Case{3, 40, 16, 8, 8, 0, 5}, Case{2, 11, 4, 3, 0, 2, 3}, Case{5, 9, 2, 4, 3, 0, 3},
                        Case{1, 3, 7, 2, 6, 0, 2}, Case{2, 1, 1, 1, 0, 1, 1}, Case{2, 4, 2, 1, 5, 0, 8}}) {
    const Vec xv = random_vec(1, c.rows * c.length), dy = random_vec(2, c.rows * c.count * c.patch);
    Tape tape;
    const Var x = tape.input(to_tensor(xv, {c.rows, c.length}, c.margin), true);
    const Var y = patches(tape, x, c.patch, c.stride, c.pad), again = patches(tape, x, c.patch, c.stride, c.pad);
    EXPECT_EQ(y.shape(), (Shape{c.rows * c.count, c.patch}));
    EXPECT_EQ(to_vec(y.value()), oracle(xv, c));
    tape.backward(weighted_sum(tape, {y, again}, {dy, dy}));
    const Vec expected = numeric_gradient([&](const Vec& v) { return 2.0 * dot(oracle(v, c), dy); }, xv, 0.5);
    expect_close(to_vec(x.grad()), expected, 1e-6, "dx");
  }
}

TEST_P(Patches, BitsDoNotDependOnTheThreadCount) {
  const Vec xv = random_vec(1, 100 * 50), dy = random_vec(2, 100 * 13 * 8);
  const auto run = [&] {
    Tape tape;
    const Var x = tape.input(to_tensor(xv, {100, 50}), true);
    tape.backward(weighted_sum(tape, {patches(tape, x, 8, 4, 6)}, {dy}));
    return to_vec(x.grad());
  };
  EXPECT_EQ(with_threads(1, run), with_threads(2, run));
}

TEST(PatchesShape, CountsFollowTheFormulaAndNothingToCutIsRefused) {
  EXPECT_EQ(patch_count(336, 16, 8, 8), 42);
  EXPECT_EQ(patch_count(512, 16, 8, 8), 64);
  EXPECT_EQ(patch_count(104, 24, 2, 2), 42);
  EXPECT_EQ(patch_count(96, 96, 96, 0), 1);
  EXPECT_THROW(patch_count(10, 16, 8, 5), Error);
  EXPECT_THROW(patch_count(10, 4, 0, 0), Error);
  EXPECT_THROW(patch_count(10, 4, 1, -1), Error);
  EXPECT_THROW(patch_count(0, 4, 1, 8), Error);
}

}  // namespace
}  // namespace farsight
