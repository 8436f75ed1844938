// SPDX-License-Identifier: Apache-2.0
#include "kernels/arena.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"

namespace farsight {
namespace {

struct Counted {
  int64_t limit = int64_t{1} << 40;
  int64_t held = 0, calls = 0;
};

// Memory that is counted and limited, as a device's is.
class CountedMemory final : public MemorySource {
 public:
  explicit CountedMemory(Counted& counted) : counted_(counted) {}
  void* allocate(int64_t bytes) override {
    ++counted_.calls;
    if (counted_.held + bytes > counted_.limit) return nullptr;
    void* pointer = std::aligned_alloc(4096, static_cast<size_t>(bytes + 4095) / 4096 * 4096);
    sizes_[pointer] = bytes;
    counted_.held += bytes;
    return pointer;
  }
  void release(void* pointer) noexcept override {
    counted_.held -= sizes_.at(pointer);
    sizes_.erase(pointer);
    std::free(pointer);
  }
  const char* name() const override { return "counted memory"; }

 private:
  Counted& counted_;
  std::map<void*, int64_t> sizes_;
};

struct Block {
  std::byte* data;
  int64_t bytes;
  std::byte mark;
};

// Random requests: blocks are aligned, keep what is written to them, and all memory is one range again at the end.
TEST(Arena, BlocksNeverMeet) {
  Counted counted;
  {
    Arena arena(std::make_unique<CountedMemory>(counted));
    std::mt19937_64 random(5);
    std::vector<Block> live;
    for (int round = 0; round < 4000; ++round) {
      if (live.size() < 40 || random() % 2 == 0) {
        const int64_t bytes = static_cast<int64_t>(random() % (random() % 8 == 0 ? 3000000 : 9000));
        auto* data = static_cast<std::byte*>(arena.allocate(bytes));
        ASSERT_NE(data, nullptr);
        ASSERT_EQ(reinterpret_cast<uintptr_t>(data) % Arena::kAlignment, 0U);
        const auto mark = static_cast<std::byte>(random());
        std::memset(data, static_cast<int>(mark), static_cast<size_t>(bytes));
        live.push_back({data, bytes, mark});
        continue;
      }
      std::swap(live[random() % live.size()], live.back());
      const Block block = live.back();
      live.pop_back();
      for (const int64_t at : {int64_t{0}, block.bytes / 2, block.bytes - 1}) {
        if (at >= 0 && at < block.bytes) {
          ASSERT_EQ(block.data[at], block.mark);
        }
      }
      arena.release(block.data);
    }
    for (const Block& block : live) arena.release(block.data);
    const int64_t calls = counted.calls, all = arena.reserved_bytes();
    EXPECT_EQ(counted.held, all);
    // Every chunk is whole again: blocks as large as the first chunks need no new one.
    EXPECT_NE(arena.allocate(Arena::kLeastChunk), nullptr);
    EXPECT_EQ(counted.calls, calls);
  }
  EXPECT_EQ(counted.held, 0);
}

// Steps whose sizes differ share memory; a cache by size would hold a block for each.
TEST(Arena, TheSteadyStateAsksTheSystemForNothing) {
  Counted counted;
  Allocator allocator(std::make_unique<Arena>(std::make_unique<CountedMemory>(counted)));
  int64_t after_first = 0;
  for (int64_t step = 0; step < 6; ++step) {
    std::vector<void*> live;
    for (int64_t i = 1; i < 60; ++i) live.push_back(allocator.allocate(i * 40000 - step * 777, MemoryTag::activation));
    for (void* p : live) allocator.release(p);
    if (step == 0) after_first = allocator.stats().system_calls;
  }
  EXPECT_EQ(allocator.stats().system_calls, after_first);
  EXPECT_EQ(counted.calls, after_first);
  EXPECT_EQ(allocator.stats().current_bytes, 0);
  EXPECT_EQ(allocator.stats().cached_bytes, counted.held);
  EXPECT_LE(counted.held, 2 * allocator.stats().peak_bytes);  // chunks double up to kLargestChunk
}

// Near the limit smaller chunks are taken, and free ones make room for a large request; then the error says what.
TEST(Arena, UsesWhatThereIs) {
  Counted counted;
  counted.limit = 3 * Arena::kLeastChunk;
  Allocator allocator(std::make_unique<Arena>(std::make_unique<CountedMemory>(counted)));
  std::vector<void*> small;
  for (int i = 0; i < 40; ++i) small.push_back(allocator.allocate(Arena::kLeastChunk / 16, MemoryTag::activation));
  for (void* p : small) allocator.release(p);
  void* large = allocator.allocate(3 * Arena::kLeastChunk, MemoryTag::activation);
  EXPECT_NE(large, nullptr);
  try {
    allocator.allocate(1, MemoryTag::logits);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::environment);
    EXPECT_NE(std::string(error.what()).find("counted memory"), std::string::npos);
  }
  allocator.release(large);
}

}  // namespace
}  // namespace farsight
