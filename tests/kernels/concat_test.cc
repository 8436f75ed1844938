// SPDX-License-Identifier: Apache-2.0
#include "kernels/concat.h"

#include "kernels/error.h"
#include "kernels/reshape.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Concat : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Concat, ::testing::ValuesIn(targets()), target_name);

Vec columns(const Vec& v, int64_t width, int64_t begin, int64_t count) {
  Vec part;
  for (size_t r = 0; r < v.size() / static_cast<size_t>(width); ++r) {
    for (int64_t c = begin; c < begin + count; ++c) {
      part.push_back(v[r * static_cast<size_t>(width) + static_cast<size_t>(c)]);
    }
  }
  return part;
}

TEST_P(Concat, ReshapeSharesValuesAndHandsTheGradientOn) {
  const Vec xv = random_vec(1, 24), d1 = random_vec(2, 24), d2 = random_vec(3, 24);
  Tape tape;
  const Var x = tape.input(to_tensor(xv, {4, 6}), true);
  const Var y = reshape(tape, x, {2, 3, 4}), z = reshape(tape, y, {24});
  EXPECT_EQ(y.shape(), (Shape{2, 3, 4}));
  EXPECT_TRUE(y.value().shares_storage(x.value()));
  EXPECT_EQ(to_vec(z.value()), xv);
  tape.backward(weighted_sum(tape, {x, y, z}, {d1, d1, d2}));
  Vec expected = d1;
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = 2.0 * d1[i] + d2[i];
  expect_close(to_vec(x.grad()), expected, 1e-6, "dx");
  EXPECT_THROW(reshape(tape, x, {5, 5}), Error);
}

TEST_P(Concat, PartsStandSideBySideAndTakeTheirGradients) {
  const Vec av = random_vec(1, 4 * 3), bv = random_vec(2, 4 * 5), cv = random_vec(3, 4), dy = random_vec(4, 4 * 9);
  Tape tape;
  const Var a = tape.input(to_tensor(av, {2, 2, 3}, 2), true), b = tape.input(to_tensor(bv, {2, 2, 5}), true);
  const Var fixed = tape.input(to_tensor(cv, {2, 2, 1}));
  const Var parts[] = {a, fixed, b};
  const Var y = concat_last(tape, parts);
  EXPECT_EQ(y.shape(), (Shape{2, 2, 9}));
  const Vec yv = to_vec(y.value());
  EXPECT_EQ(columns(yv, 9, 0, 3), av);
  EXPECT_EQ(columns(yv, 9, 3, 1), cv);
  EXPECT_EQ(columns(yv, 9, 4, 5), bv);
  tape.backward(weighted_sum(tape, {b, y}, {bv, dy}));
  EXPECT_EQ(to_vec(a.grad()), columns(dy, 9, 0, 3));
  Vec expected = columns(dy, 9, 4, 5);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += bv[i];
  expect_close(to_vec(b.grad()), expected, 1e-6, "db");
  EXPECT_FALSE(fixed.has_grad());
}

TEST_P(Concat, UndoesSplitLast) {
  const Vec xv = random_vec(1, 3 * 7), dy = random_vec(2, 3 * 7);
  Tape tape;
  const Var x = tape.input(to_tensor(xv, {3, 7}), true);
  const Var y = concat_last(tape, tape.split_last(x, {2, 4, 1}));
  EXPECT_EQ(to_vec(y.value()), xv);
  tape.backward(weighted_sum(tape, {y}, {dy}));
  EXPECT_EQ(to_vec(x.grad()), dy);
}

TEST_P(Concat, TokensOfASampleStayTogether) {
  const Vec av = random_vec(1, 2 * 3 * 2), bv = random_vec(2, 2 * 1 * 2), dy = random_vec(3, 2 * 4 * 2);
  Tape tape;
  const Var a = tape.input(to_tensor(av, {2, 3, 2}), true), b = tape.input(to_tensor(bv, {2, 1, 2}), true);
  const Var y = concat_tokens(tape, a, b);
  EXPECT_EQ(y.shape(), (Shape{2, 4, 2}));
  const Vec yv = to_vec(y.value());
  EXPECT_EQ(columns(yv, 8, 0, 6), av);
  EXPECT_EQ(columns(yv, 8, 6, 2), bv);
  tape.backward(weighted_sum(tape, {y}, {dy}));
  EXPECT_EQ(to_vec(a.grad()), columns(dy, 8, 0, 6));
  EXPECT_EQ(to_vec(b.grad()), columns(dy, 8, 6, 2));
}

TEST(ConcatShape, PartsThatDoNotFitAreRefused) {
  Tape tape;
  const Var parts[] = {tape.input(Tensor::zeros({2, 3})), tape.input(Tensor::zeros({3, 3}))};
  EXPECT_THROW(concat_last(tape, parts), Error);
  EXPECT_THROW(concat_last(tape, {}), Error);
  const Var a = tape.input(Tensor::zeros({2, 3, 4})), b = tape.input(Tensor::zeros({1, 3, 4}));
  EXPECT_THROW(concat_tokens(tape, a, b), Error);
}

}  // namespace
}  // namespace farsight
