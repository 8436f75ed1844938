// SPDX-License-Identifier: Apache-2.0
#include "kernels/offload.h"

#include <optional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

class Offload : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (GetParam() == Device::cpu) return;
    if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
    scope_.emplace(device_.emplace(0));
  }
  std::optional<CudaDevice> device_;
  std::optional<CudaScope> scope_;
};
INSTANTIATE_TEST_SUITE_P(Devices, Offload, ::testing::Values(Device::cpu, Device::cuda),
                         [](const auto& info) { return info.param == Device::cpu ? "Cpu" : "Cuda"; });

Tensor numbered(int64_t number) {
  const Tensor t = Tensor::empty({64 + number % 3, 8}, number % 2 == 0 ? DType::f32 : DType::bf16);
  fill(t, static_cast<float>(number));
  return t;
}

void expect_number(const Tensor& t, int64_t number) {
  ASSERT_EQ(t.shape(), (Shape{64 + number % 3, 8}));
  const Tensor wide = Tensor::empty(t.shape());
  copy_rows(t, wide);
  const Tensor host = wide.to(Device::cpu);
  for (const float x : host.span<float>()) ASSERT_EQ(x, static_cast<float>(number));
}

// Values come back as they were although their memory was given out and written again in between, in several passes.
TEST_P(Offload, WhatWasParkedLastComesBackFirst) {
  const auto offload = make_offload();
  for (int pass = 0; pass < 3; ++pass) {
    constexpr int64_t kValues = 19;
    std::vector<ParkedTensor> parked;
    for (int64_t i = 0; i < kValues; ++i) {
      parked.push_back(offload->park(numbered(100 * pass + i)));
      numbered(-1);  // what an operation writes into memory that is free
    }
    EXPECT_GT(offload->stats().parked_bytes, 0);
    for (int64_t i = kValues; i-- > 0;) {
      const Tensor back = offload->fetch(std::exchange(parked[static_cast<size_t>(i)], nullptr));
      numbered(-1);
      expect_number(back, 100 * pass + i);
    }
    EXPECT_EQ(offload->stats().parked_bytes, 0);
  }
  EXPECT_EQ(offload->stats().fetches, offload->stats().parks);
  EXPECT_EQ(offload->stats().moved_bytes > 0, GetParam() == Device::cuda);
}

TEST_P(Offload, ParkingFreesTheDevice) {
  if (GetParam() == Device::cpu) return;
  const auto offload = make_offload();
  std::vector<ParkedTensor> parked;
  const int64_t before = device_->memory().current_bytes;
  const int64_t bytes = Tensor::empty({1024}).bytes();
  for (int i = 0; i < 50; ++i) parked.push_back(offload->park(Tensor::zeros({1024})));
  EXPECT_LE(device_->memory().current_bytes - before, kOffloadAhead * bytes);
  EXPECT_EQ(offload->stats().peak_bytes, 50 * bytes);
}

TEST_P(Offload, AnythingElseIsRefused) {
  const auto offload = make_offload();
  const ParkedTensor once = offload->park(numbered(1));
  offload->fetch(once);
  EXPECT_THROW(offload->fetch(once), Error);
}

// A pass that ends with an error leaves nothing that a later one could trip over.
TEST_P(Offload, APassMayBeGivenUp) {
  const auto offload = make_offload();
  std::vector<ParkedTensor> parked;
  for (int64_t i = 0; i < 9; ++i) parked.push_back(offload->park(numbered(i)));
  expect_number(offload->fetch(parked.back()), 8);
}

}  // namespace
}  // namespace farsight
