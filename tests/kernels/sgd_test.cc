// SPDX-License-Identifier: Apache-2.0
#include "kernels/sgd.h"

#include "kernels/error.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class Sgd : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, Sgd, ::testing::ValuesIn(targets()), target_name);

// On the CPU or the device, whichever the target is.
void step_sgd(std::vector<float>& value, const std::vector<float>& gradient, std::vector<float>& buffer,
              std::span<const OptimizerRange> ranges, const SgdStep& step) {
  if (current_device() == Device::cpu) {
    sgd(value, gradient, buffer, ranges, step);
    return;
  }
  const Tensor v = device_copy(value), b = buffer.empty() ? Tensor() : device_copy(buffer);
  sgd(v, device_copy(gradient), b, ranges, step);
  std::copy_n(v.to(Device::cpu).data<float>(), value.size(), value.begin());
  if (b.defined()) std::copy_n(b.to(Device::cpu).data<float>(), buffer.size(), buffer.begin());
}

// Powers of two, so that every operation is exact: b = 0.5 * 4 + 0.25 * 8 = 4, value = 16 - 0.5 * (4 + 0.125 * 16).
TEST_P(Sgd, OneStepByHand) {
  std::vector<float> value = {16.0F, 16.0F}, gradient = {8.0F, 8.0F}, buffer = {4.0F, 4.0F};
  const OptimizerRange ranges[] = {{0, 1, 1.0F, true}, {1, 1, 1.0F, false}};
  step_sgd(value, gradient, buffer, ranges, {0.5, 0.5, 0.125, 0.25});
  EXPECT_EQ(buffer, (std::vector<float>{4.0F, 4.0F}));
  EXPECT_EQ(value, (std::vector<float>{13.0F, 14.0F}));
}

TEST_P(Sgd, TenStepsEqualFp64ReferenceWithAndWithoutMomentum) {
  for (const double momentum : {0.0, 0.9}) {
    const size_t n = 77;
    const Vec start = random_vec(1, 77);
    std::vector<float> value(start.begin(), start.end()), buffer(momentum == 0.0 ? 0 : n, 0.0F);
    Vec expected = start, b(n, 0.0);
    const OptimizerRange all[] = {{0, 77, 2.0F, true}};
    for (uint64_t t = 0; t < 10; ++t) {
      const Vec g = random_vec(10 + t, 77);
      step_sgd(value, std::vector<float>(g.begin(), g.end()), buffer, all, {0.01, momentum, 0.1, 0.5});
      for (size_t i = 0; i < n; ++i) {
        b[i] = momentum * b[i] + 0.5 * g[i];
        expected[i] -= 0.02 * (b[i] + 0.1 * expected[i]);
      }
    }
    expect_close(Vec(value.begin(), value.end()), expected, 1e-6, "value");
  }
}

TEST(SgdErrors, MomentumNeedsItsBuffer) {
  std::vector<float> value(3), gradient(3);
  const OptimizerRange all[] = {{0, 3, 1.0F, false}};
  EXPECT_THROW(sgd(value, gradient, {}, all, {0.1, 0.9, 0.0, 1.0}), Error);
  EXPECT_NO_THROW(sgd(value, gradient, {}, all, {0.1, 0.0, 0.0, 1.0}));
}

}  // namespace
}  // namespace farsight
