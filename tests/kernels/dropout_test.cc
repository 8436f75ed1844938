// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout.h"

#include "kernels/error.h"
#include "kernels/norm.h"
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

// The residual has the bits that norm_residual gives it; the gradient goes to it whole and to the branch through the
// same mask, added to what others have contributed.
TEST_P(Dropout, AddedToAResidualHasTheBitsOfNormResidual) {
  const std::vector<uint64_t> keys = {site_key(1, 2, 3, 4, Site::mlp_residual)};
  const std::vector<int32_t> positions = {0, 5, 9, 7, 1};
  for (const double p : {0.0, 0.3}) {
    for (const int64_t cols : {4, 31, 64}) {
      const DropoutSite site{p, keys, ids(positions), 5, 0};
      const auto n = static_cast<size_t>(5 * cols);
      const Tensor branch = to_tensor(random_vec(1, 5 * cols), {5, cols}, 1),
                   stream = to_tensor(random_vec(2, 5 * cols), {5, cols});
      const Vec dy = random_vec(3, 5 * cols), more = random_vec(4, 5 * cols);
      ParameterStore store;
      Parameter& weight = add_parameter(store, "norm", {cols});
      allocate(store);
      Tape tape;
      const Var x = tape.input(branch, true), residual = tape.input(stream, true);
      const Var y = add_dropout(tape, x, residual, site);
      Tape other(/*recording=*/false);
      const auto fused =
          norm_residual(other, other.input(branch), other.input(stream), weight, nullptr, NormKind::rms, 1e-5F, &site);
      EXPECT_EQ(to_vec(y.value()), to_vec(fused.residual.value())) << cols;
      tape.backward(weighted_sum(tape, {y, x, residual}, {dy, more, more}));
      Vec dx(n), dresidual(n);
      for (size_t i = 0; i < n; ++i) {
        const auto row = i / static_cast<size_t>(cols), column = i % static_cast<size_t>(cols);
        const double f = p == 0.0 ? 1.0 : factor(keys[0], positions[row], static_cast<int64_t>(column), p);
        dx[i] = f * dy[i] + more[i];
        dresidual[i] = dy[i] + more[i];
      }
      expect_close(to_vec(x.grad()), dx, 1e-6, "branch");
      expect_close(to_vec(residual.grad()), dresidual, 1e-6, "residual");
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
