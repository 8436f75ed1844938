// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout.h"

#include "kernels/error.h"
#include "kernels/random.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Dropout : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Dropout, ::testing::ValuesIn(targets()), target_name);

// The definition, one element at a time.
double factor(uint64_t key, int32_t position, int64_t channel, double p) {
  const auto words = philox(key, {static_cast<uint32_t>(position), static_cast<uint32_t>(channel >> 2), 0, 0});
  const bool keep = words[static_cast<size_t>(channel & 3)] >= dropout_threshold(p);
  return keep ? rounded(1.0 / (1.0 - p)) : 0.0;
}

TEST_P(Dropout, MaskIsTheDefinitionForwardAndBackward) {
  const std::vector<uint64_t> keys = {site_key(1, 2, 3, 4, Site::embedding), site_key(1, 2, 9, 4, Site::embedding)};
  const std::vector<int32_t> positions = {0, 5, 2147483647, 7, 1, 0};
  for (const int64_t cols : {1, 4, 31, 67, 128}) {
    for (const int64_t first : {0, 64}) {
      const DropoutSite site{0.3, keys, ids(positions), 3, first};
      Tape tape;
      const Var x = tape.input(to_tensor(Vec(static_cast<size_t>(6 * cols), 1.0), {6, cols}, 1), true);
      const Var y = dropout(tape, x, site);
      Vec expected;
      for (int64_t r = 0; r < 6; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          const auto n = static_cast<size_t>(r);
          expected.push_back(factor(keys[n / 3], positions[n], first + c, 0.3));
        }
      }
      EXPECT_EQ(to_vec(y.value()), expected);
      tape.backward(weighted_sum(tape, {y}, {Vec(expected.size(), 1.0)}));
      EXPECT_EQ(to_vec(x.grad()), expected);
    }
  }
}

TEST_P(Dropout, DropRateIsWithinFourSigma) {
  const std::vector<uint64_t> keys = {42};
  std::vector<int32_t> positions(200);
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i);
  for (const double p : {0.1, 0.5, 0.9}) {
    Tape tape;
    const Var x = tape.input(to_tensor(Vec(200 * 100, 1.0), {200, 100}));
    const Vec y = to_vec(dropout(tape, x, {p, keys, ids(positions), 200, 0}).value());
    const auto dropped = static_cast<double>(std::count(y.begin(), y.end(), 0.0));
    EXPECT_NEAR(dropped, 20000 * p, 4.0 * std::sqrt(20000 * p * (1.0 - p)));
  }
}

TEST(DropoutSite, ZeroIsTheIdentityAndWrongSitesAreRefused) {
  Tape tape;
  const Var x = tape.input(Tensor::zeros({4, 3}));
  EXPECT_EQ(dropout(tape, x, {}).value().raw(), x.value().raw());
  const std::vector<uint64_t> keys = {1};
  const std::vector<int32_t> positions = {0, 1, 2, 3};
  EXPECT_THROW(dropout(tape, x, {1.0, keys, ids(positions), 4, 0}), Error);
  EXPECT_THROW(dropout(tape, x, {0.5, keys, ids(positions), 3, 0}), Error);
  EXPECT_THROW(dropout(tape, x, {0.5, keys, Tensor(), 4, 0}), Error);
  EXPECT_THROW(dropout(tape, x, {0.5, keys, ids(positions), 4, 2}), Error);
}

}  // namespace
}  // namespace farsight
