// SPDX-License-Identifier: Apache-2.0
// Finding and opening the CUDA plugin: what is missing is said, and nothing else happens.
//   FARSIGHT_CUDA_EMULATED, FARSIGHT_CUDA_OTHER_BUILD   plugins of tests/emulation
//   FARSIGHT_CUDA_REAL                                  libfarsight_cuda.so, where it was built
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include <gtest/gtest.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "kernels/rows.h"
#include "kernels/tensor.h"

namespace farsight {
namespace {

std::string plugin(const char* variable) {
  const char* path = std::getenv(variable);
  return path == nullptr ? std::string() : std::string(path);
}

void expect_reason(const CudaLibrary& library, const char* part) {
  EXPECT_EQ(library.table, nullptr);
  EXPECT_EQ(library.devices, 0);
  EXPECT_NE(library.reason.find(part), std::string::npos) << library.reason;
}

TEST(CudaLibrary, AbsentDamagedAndForeignPluginsAreNamed) {
  expect_reason(open_cuda_library("/nonexistent/libfarsight_cuda.so"), "/nonexistent/libfarsight_cuda.so");
  expect_reason(open_cuda_library("/nonexistent/libfarsight_cuda.so"), "was not found");
  const std::string damaged = ::testing::TempDir() + "damaged_plugin.so";
  std::ofstream(damaged) << "this is no shared library";
  expect_reason(open_cuda_library(damaged), "damaged_plugin.so");
  expect_reason(open_cuda_library(plugin("FARSIGHT_CUDA_OTHER_BUILD")), "not of this build");
  std::remove(damaged.c_str());
}

TEST(CudaLibrary, NoVisibleDeviceIsAReason) {
  setenv("FARSIGHT_EMULATION_DEVICES", "0", 1);
  expect_reason(open_cuda_library(plugin("FARSIGHT_CUDA_EMULATED")), "no CUDA device is visible");
  unsetenv("FARSIGHT_EMULATION_DEVICES");
}

// On a machine with a device there is nothing to say; the GPU suite covers that.
TEST(CudaLibrary, TheRealPluginOpensWithoutADriver) {
  const std::string path = plugin("FARSIGHT_CUDA_REAL");
  if (path.empty()) GTEST_SKIP() << "the CUDA plugin was not built (preset cuda)";
  const CudaLibrary library = open_cuda_library(path);
  if (library.table != nullptr) GTEST_SKIP() << library.devices << " devices here";
  expect_reason(library, "driver");
}

// NCCL answers these without a driver, so that its library is known to be one that the plugin can use.
TEST(CudaLibrary, TheRealPluginKnowsItsNccl) {
  const std::string path = plugin("FARSIGHT_CUDA_REAL");
  if (path.empty()) GTEST_SKIP() << "the CUDA plugin was not built (preset cuda)";
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  const auto entry = reinterpret_cast<CudaBackendEntry>(dlsym(handle, "farsight_cuda_backend"));
  ASSERT_NE(entry, nullptr);
  const CudaBackend* const table = entry(kCudaAbi);
  ASSERT_NE(table, nullptr);
  int32_t version = 0;
  EXPECT_EQ(table->ranks_version(&version), 0) << table->message();
  EXPECT_GE(version, 22700);
  std::printf("NCCL %d\n", version);
  CudaRanksId first{}, second{};
  EXPECT_EQ(table->ranks_id(&first), 0) << table->message();
  EXPECT_EQ(table->ranks_id(&second), 0) << table->message();
  EXPECT_NE(std::memcmp(first.bytes, second.bytes, sizeof(first.bytes)), 0);
}

// The device tests of every program are skipped where no plugin can be used. ctest names one, so that there it must be.
TEST(CudaLibrary, ThePluginThatCtestNamesCanBeUsed) {
  if (plugin("FARSIGHT_CUDA_PLUGIN").empty()) GTEST_SKIP() << "started by hand, without FARSIGHT_CUDA_PLUGIN";
  EXPECT_NE(cuda_library().table, nullptr) << cuda_library().reason;
}

class CudaDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
  }
};

TEST_F(CudaDeviceTest, TensorsLiveWhereTheScopeSays) {
  EXPECT_EQ(current_device(), Device::cpu);
  EXPECT_THROW(cuda_device(), Error);
  CudaDevice device(0);
  Tensor kept;
  {
    const CudaScope scope(device);
    EXPECT_EQ(current_device(), Device::cuda);
    kept = device_copy(std::vector<float>{1.0F, 2.0F, 3.0F});
    EXPECT_EQ(kept.device(), Device::cuda);
    EXPECT_THROW(kept.data<float>(), Error);  // the host cannot read it by mistake
    const Tensor host = Tensor::empty({3}, DType::f32, MemoryTag::other, Device::cpu);
    EXPECT_EQ(host.device(), Device::cpu);
    EXPECT_THROW(copy_rows(host, kept), Error);
    add_rows(kept, kept);
    EXPECT_EQ(kept.clone().to(Device::cpu).data<float>()[2], 6.0F);
  }
  EXPECT_EQ(current_device(), Device::cpu);
  EXPECT_GT(device.memory().peak_bytes, 0);
}

TEST_F(CudaDeviceTest, WhatIsUploadedMayChangeAtOnce) {
  CudaDevice device(0);
  const CudaScope scope(device);
  const Tensor host = Tensor::empty({1000}, DType::f32, MemoryTag::other, Device::cpu);
  fill(host, 1.0F);
  const Tensor there = host.to(Device::cuda);
  fill(host, 2.0F);
  EXPECT_EQ(there.to(Device::cpu).data<float>()[999], 1.0F);
}

TEST_F(CudaDeviceTest, ConversionsAndStridesEqualTheHost) {
  CudaDevice device(0);
  const Tensor host = Tensor::empty({5, 24}, DType::f32, MemoryTag::other, Device::cpu);
  for (int64_t i = 0; i < host.numel(); ++i) host.data<float>()[i] = static_cast<float>(i) * 1.7F - 60.0F;
  const CudaScope scope(device);
  for (const int64_t first : {0, 8, 3}) {
    for (const int64_t count : {16, 7}) {
      const Tensor from = host.narrow_last(first, count);
      const Tensor expected = Tensor::zeros({5, count}, DType::bf16, MemoryTag::other, Device::cpu);
      copy_rows(from, expected);
      add_rows(from, expected);
      const Tensor wide = Tensor::zeros({5, 40}, DType::bf16);
      const Tensor to = wide.narrow_last(8, count);
      const Tensor there = host.to(Device::cuda).narrow_last(first, count);
      copy_rows(there, to);
      add_rows(there, to);
      const Tensor back = to.to(Device::cpu);
      const auto* got = static_cast<const uint16_t*>(back.raw());
      const auto* want = static_cast<const uint16_t*>(expected.raw());
      for (int64_t i = 0; i < expected.numel(); ++i) EXPECT_EQ(got[i], want[i]) << first << " " << count << " " << i;
    }
  }
}

TEST_F(CudaDeviceTest, ADeviceThatDoesNotExistIsRefused) {
  try {
    CudaDevice device(4096);
    FAIL() << "made";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::environment);
    EXPECT_NE(std::string(error.what()).find("4096"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace farsight
