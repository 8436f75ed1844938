// SPDX-License-Identifier: Apache-2.0
#include "kernels/allocator.h"

#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"

namespace farsight {
namespace {

TEST(Allocator, BlocksAreAlignedUsableAndDistinct) {
  Allocator a;
  std::vector<void*> blocks;
  for (const int64_t bytes : {0, 1, 63, 64, 65, 1000, 1 << 20, (1 << 21) + 1}) {
    void* p = a.allocate(bytes, MemoryTag::other);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0U) << bytes;
    std::memset(p, 1, static_cast<size_t>(bytes));
    for (void* other : blocks) EXPECT_NE(p, other);
    blocks.push_back(p);
  }
  for (void* p : blocks) a.release(p);
  EXPECT_EQ(a.stats().current_bytes, 0);
}

TEST(Allocator, TheSteadyStateAsksTheSystemForNothing) {
  Allocator a;
  const auto step = [&] {
    std::vector<void*> live;
    for (int i = 1; i < 20; ++i) live.push_back(a.allocate(i * 5000, MemoryTag::activation));
    for (void* p : live) a.release(p);
  };
  step();
  const int64_t calls = a.stats().system_calls;
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(a.stats().system_calls, calls);
}

TEST(Allocator, RoundingWastesAtMostAnEighthBeyondSmallSizes) {
  for (int64_t bytes = 512; bytes < 100000; bytes += 517) {
    Allocator a;
    a.release(a.allocate(bytes, MemoryTag::other));
    EXPECT_LE(a.stats().cached_bytes, bytes + bytes / 8 + 64) << bytes;
    EXPECT_GE(a.stats().cached_bytes, bytes);
  }
}

TEST(Allocator, PeaksAndLargestRequestsAreKeptPerTag) {
  Allocator a;
  void* x = a.allocate(1000, MemoryTag::logits);
  void* y = a.allocate(3000, MemoryTag::attention);
  a.release(x);
  void* z = a.allocate(500, MemoryTag::logits);
  const MemoryStats s = a.stats();
  EXPECT_EQ(s.current_bytes, 3500);
  EXPECT_EQ(s.peak_bytes, 4000);
  EXPECT_EQ(s.largest_by_tag.at(MemoryTag::logits), 1000);
  EXPECT_EQ(s.peak_by_tag.at(MemoryTag::attention), 3000);
  a.reset_peak();
  EXPECT_EQ(a.stats().peak_bytes, 3500);
  EXPECT_EQ(a.stats().peak_by_tag.at(MemoryTag::logits), 500);
  EXPECT_EQ(a.stats().largest_by_tag.count(MemoryTag::logits), 0U);
  a.release(y);
  a.release(z);
}

TEST(Allocator, ReleaseCacheGivesEverythingBack) {
  Allocator a;
  a.release(a.allocate(1 << 20, MemoryTag::other));
  EXPECT_GT(a.stats().cached_bytes, 0);
  a.release_cache();
  EXPECT_EQ(a.stats().cached_bytes, 0);
  a.release(nullptr);
}

TEST(Allocator, ImpossibleRequestsNameTheSizeAndLeaveTheCountsAlone) {
  Allocator a;
  EXPECT_THROW(a.allocate(-1, MemoryTag::other), Error);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers end the program here
  try {
    a.allocate(std::numeric_limits<int64_t>::max() / 4, MemoryTag::attention);
    ADD_FAILURE() << "memory without end";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::environment);
    EXPECT_NE(std::string(e.what()).find("attention"), std::string::npos);
  }
#endif
  EXPECT_EQ(a.stats().current_bytes, 0);
}

TEST(Allocator, ThreadsMayShareIt) {
  Allocator a;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        auto* p = static_cast<unsigned char*>(a.allocate(64 + i % 7 * 100, MemoryTag::other));
        std::memset(p, t, 64);
        for (int k = 0; k < 64; ++k) ASSERT_EQ(p[k], t);
        a.release(p);
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(a.stats().current_bytes, 0);
}

}  // namespace
}  // namespace farsight
