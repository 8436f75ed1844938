// SPDX-License-Identifier: Apache-2.0
#include "kernels/parallel_for.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace farsight {
namespace {

class ParallelFor : public ::testing::Test {
 protected:
  void SetUp() override { set_thread_count(4); }
  void TearDown() override { set_thread_count(before_); }

 private:
  int before_ = thread_count();
};

using Ranges = std::vector<std::pair<int64_t, int64_t>>;

Ranges ranges_of(int64_t n, int64_t grain) {
  Ranges ranges(64, {-1, -1});
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    ranges[static_cast<size_t>(thread_index())] = {begin, end};
  });
  std::erase(ranges, std::pair<int64_t, int64_t>{-1, -1});
  return ranges;
}

TEST_F(ParallelFor, RangesCoverEverythingOnceInOrderOfThreads) {
  for (const int64_t n : {1, 3, 4, 5, 100, 1001}) {
    const Ranges ranges = ranges_of(n, 1);
    EXPECT_EQ(static_cast<int64_t>(ranges.size()), std::min<int64_t>(n, 4));
    int64_t next = 0;
    for (const auto& [begin, end] : ranges) {
      EXPECT_EQ(begin, next);
      EXPECT_GT(end, begin);
      next = end;
    }
    EXPECT_EQ(next, n);
  }
}

TEST_F(ParallelFor, GrainBoundsTheNumberOfRangesAndNothingRunsForNothing) {
  EXPECT_EQ(ranges_of(100, 50).size(), 2U);
  EXPECT_EQ(ranges_of(100, 51).size(), 1U);
  EXPECT_TRUE(ranges_of(0, 1).empty());
}

TEST_F(ParallelFor, MemoryWrittenInRangesIsVisibleAfterwardsAndBefore) {
  std::vector<int64_t> v(10000);
  std::iota(v.begin(), v.end(), 0);  // read by the team
  std::vector<int64_t> out(v.size());
  for (int round = 0; round < 20; ++round) {
    parallel_for(static_cast<int64_t>(v.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[static_cast<size_t>(i)] = 2 * v[v.size() - 1 - static_cast<size_t>(i)];
    });
    parallel_tasks(100, [&](int64_t begin, int64_t) {
      for (size_t i = static_cast<size_t>(begin) * 100; i < static_cast<size_t>(begin + 1) * 100; ++i)
        v[i] = out[i] / 2;
    });
  }
  EXPECT_EQ(std::accumulate(v.begin(), v.end(), int64_t{0}), 9999 * 5000);
}

TEST_F(ParallelFor, ExceptionOfTheLowestRangeIsRethrownAfterAllHaveEnded) {
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> ended = 0;
    try {
      parallel_for(4, 1, [&](int64_t begin, int64_t) {
        if (begin == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        ++ended;
        if (begin >= 1) throw std::runtime_error(std::to_string(begin));
      });
      ADD_FAILURE() << "nothing thrown";
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "1");
    }
    EXPECT_EQ(ended, 4);
  }
}

TEST_F(ParallelFor, TasksRunOnceEachAndTheirExceptionsArrive) {
  std::vector<std::atomic<int>> runs(57);
  parallel_tasks(57, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(end, begin + 1);
    ++runs[static_cast<size_t>(begin)];
  });
  for (const auto& r : runs) EXPECT_EQ(r, 1);
  EXPECT_THROW(parallel_tasks(57,
                              [](int64_t i, int64_t) {
                                if (i == 13) throw std::runtime_error("13");
                              }),
               std::runtime_error);
}

TEST_F(ParallelFor, IsSerialInsideItself) {
  std::atomic<int> inner = 0;
  std::atomic<bool> moved = false;
  parallel_for(4, 1, [&](int64_t, int64_t) {
    const int outside = thread_index();
    EXPECT_EQ(thread_count(), 1);
    parallel_for(8, 1, [&](int64_t begin, int64_t end) {
      inner += static_cast<int>(end - begin);
      if (thread_index() != outside) moved = true;
    });
  });
  EXPECT_EQ(inner, 32);
  EXPECT_FALSE(moved);
}

TEST_F(ParallelFor, ThreadCountIsThatOfTheCallingThread) {
  int other = 0;
  std::thread([&] {
    set_thread_count(1);
    other = thread_count();
  }).join();
  EXPECT_EQ(other, 1);
  EXPECT_EQ(thread_count(), 4);
  EXPECT_EQ(thread_index(), 0);
}

TEST_F(ParallelFor, TwoThreadsOfTheProgramMayUseItAtOnce) {
  std::vector<int64_t> sums(2);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      set_thread_count(2);
      for (int round = 0; round < 50; ++round) {
        std::atomic<int64_t> sum = 0;
        parallel_for(100, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) sum += i;
        });
        sums[t] += sum;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(sums, (std::vector<int64_t>{50 * 4950, 50 * 4950}));
}

}  // namespace
}  // namespace farsight
