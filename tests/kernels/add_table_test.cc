// SPDX-License-Identifier: Apache-2.0
#include "kernels/add_table.h"

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class AddTable : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, AddTable, ::testing::ValuesIn(targets()), target_name);

Tensor host_ids(const std::vector<int32_t>& v) {
  const HostScope host;
  return ids(v);
}

TEST_P(AddTable, ValuesAndGradientsEqualTheFormula) {
  const std::vector<int32_t> places = {2, 0, 2, 2, 1, 0};
  const Vec xv = random_vec(1, 6 * 9), tv = random_vec(2, 4 * 9), dy = random_vec(3, 6 * 9);
  ParameterStore store;
  Parameter& table = add_parameter(store, "table", {4, 9});
  allocate(store);
  assign(table.value, tv);
  Vec y = xv, dtable(tv.size(), 0.0);
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t at = static_cast<size_t>(places[i / 9]) * 9 + i % 9;
    y[i] += tv[at];
    dtable[at] += 2.0 * dy[i];
  }
  Tape tape;
  const Var x = tape.input(to_tensor(xv, {6, 9}), true);
  const Var a = add_table(tape, x, table, host_ids(places)), b = add_table(tape, x, table, ids(places));
  expect_close(to_vec(a.value()), y, 1e-6, "host ids");
  expect_close(to_vec(b.value()), y, 1e-6, "ids where the rows are");
  tape.backward(weighted_sum(tape, {a, b}, {dy, dy}));
  Vec dx = dy;
  for (auto& d : dx) d *= 2.0;
  expect_close(to_vec(x.grad()), dx, 1e-6, "dx");
  expect_close(to_vec(table.grad), dtable, 1e-6, "dtable");
}

TEST(AddTableShape, IdsOutsideTheTableAndViewsAreRefused) {
  ParameterStore store;
  Parameter& table = add_parameter(store, "table", {4, 3});
  allocate(store);
  Tape tape;
  const Var x = tape.input(Tensor::zeros({2, 3}));
  EXPECT_THROW(add_table(tape, x, table, ids({0, 4})), Error);
  EXPECT_THROW(add_table(tape, x, table, ids({0})), Error);
  EXPECT_THROW(add_table(tape, tape.input(Tensor::zeros({2, 5}).narrow_last(1, 3)), table, ids({0, 1})), Error);
}

}  // namespace
}  // namespace farsight
