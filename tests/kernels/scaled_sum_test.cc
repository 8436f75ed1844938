// SPDX-License-Identifier: Apache-2.0
#include "kernels/scaled_sum.h"

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class ScaledSum : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, ScaledSum, ::testing::ValuesIn(targets()), target_name);

TEST_P(ScaledSum, ValuesAndGradientsOfBothTermsAddUp) {
  for (const auto& [rows, width, margin] : {std::tuple{1, 1, 0}, {3, 17, 0}, {5, 32, 2}, {2, 37, 1}}) {
    const Vec av = random_vec(1, rows * width), bv = random_vec(2, rows * width), dy = random_vec(3, rows * width);
    Tape tape;
    const Var a = tape.input(to_tensor(av, {rows, width}, margin), true);
    const Var b = tape.input(to_tensor(bv, {rows, width}, margin), true);
    const Var y = scaled_sum(tape, a, b, -0.5F), both = scaled_sum(tape, a, a, 0.25F);
    Vec expected(av.size()), da(av.size()), db(av.size());
    for (size_t i = 0; i < av.size(); ++i) {
      expected[i] = av[i] - 0.5 * bv[i];
      da[i] = dy[i] + 1.25 * dy[i];
      db[i] = -0.5 * dy[i];
    }
    expect_close(to_vec(y.value()), expected, 1e-6, "y");
    tape.backward(weighted_sum(tape, {y, both}, {dy, dy}));
    expect_close(to_vec(a.grad()), da, 1e-6, "da");
    expect_close(to_vec(b.grad()), db, 1e-6, "db");
  }
}

TEST_P(ScaledSum, RefusesOtherShapes) {
  Tape tape;
  const Var a = tape.input(to_tensor(Vec(6, 1.0), {2, 3})), b = tape.input(to_tensor(Vec(6, 1.0), {3, 2}));
  EXPECT_THROW(scaled_sum(tape, a, b, 1.0F), Error);
}

}  // namespace
}  // namespace farsight
