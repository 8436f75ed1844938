// SPDX-License-Identifier: Apache-2.0
// Which way tensors go between devices, from names alone, and from the devices of ranks.
#include "parallel/device_choice.h"

#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/library.h"
#include "kernels/rows.h"
#include "parallel/inproc_comm.h"

namespace farsight {
namespace {

constexpr const char* kFirst = "0000:1b:00.0";
constexpr const char* kSecond = "0000:43:00.0";

TEST(DeviceChoice, OwnDevicesGoThroughNccl) {
  const std::vector<RankDevice> ranks{{"x", kFirst}, {"x", kSecond}, {"y", kFirst}, {"y", kSecond}};
  const CommunicatorChoice choice = choose_between(ranks);
  EXPECT_TRUE(choice.nccl);
  EXPECT_EQ(choice.line, "communicator: NCCL, 4 ranks on 4 devices");
}

TEST(DeviceChoice, ASharedDeviceIsNamed) {
  const CommunicatorChoice two = choose_between(std::vector<RankDevice>{{"x", kFirst}, {"x", kFirst}});
  EXPECT_FALSE(two.nccl);
  EXPECT_EQ(two.line, "communicator: staged through host memory: ranks 0 and 1 share device 0000:1b:00.0 of host x");
  const std::vector<RankDevice> ranks{{"x", kFirst}, {"y", kFirst}, {"y", kSecond}, {"y", kFirst}, {"y", kFirst}};
  const CommunicatorChoice more = choose_between(ranks);
  EXPECT_FALSE(more.nccl);
  EXPECT_EQ(more.line,
            "communicator: staged through host memory: ranks 1, 3 and 4 share device 0000:1b:00.0 of host y");
}

TEST(DeviceChoice, OneRankNeedsNone) {
  const CommunicatorChoice choice = choose_between(std::vector<RankDevice>{{"x", kFirst}});
  EXPECT_TRUE(choice.nccl);
  EXPECT_EQ(choice.line, "communicator: none needed, 1 rank");
}

// ctest gives the emulator three devices.
TEST(DeviceChoice, RanksLookAtTheirDevices) {
  if (cuda_library().devices < 3) GTEST_SKIP() << "needs three devices";
  for (const bool shared : {false, true}) {
    run_in_process(3, [&](Communicator& world) {
      CudaDevice device(shared ? 1 : world.rank());
      const CudaScope scope(device);
      const DeviceCommunicator chosen = choose_device_communicator(world, device);
      EXPECT_EQ(chosen.nccl == nullptr, shared) << chosen.line;
      if (shared) {
        EXPECT_NE(chosen.line.find("ranks 0, 1 and 2 share device"), std::string::npos) << chosen.line;
        EXPECT_NE(chosen.line.find(device.info().bus_id), std::string::npos) << chosen.line;
      } else {
        EXPECT_EQ(chosen.line, "communicator: NCCL, 3 ranks on 3 devices");
      }
      Communicator& used = chosen.nccl ? *chosen.nccl : world;
      const Tensor one = Tensor::empty({1});
      fill(one, 1.0F);
      used.all_reduce_tensor(one, ReduceOp::sum)->wait();
      EXPECT_EQ(one.to(Device::cpu).data<float>()[0], 3.0F);
    });
  }
}

}  // namespace
}  // namespace farsight
