// SPDX-License-Identifier: Apache-2.0
// Ranks that fail, return early or call something else: nobody hangs, and the message names what is wrong.
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/parallel/comm_paths.h"

namespace farsight {
namespace {

using testing::error_of;
using testing::kPaths;
using testing::name_of;
using testing::options_of;
using testing::Path;

TEST(FailingRanks, TheFirstErrorIsRethrownAndNobodyHangs) {
  for (const Path path : kPaths) {
    for (int bad = 0; bad < 4; ++bad) {
      const std::string text = error_of([&] {
        run_in_process(
            4,
            [&](Communicator& world) {
              std::vector<float> data(100000, 1.0F);
              auto request = world.all_reduce_async(data, ReduceOp::sum);
              if (world.rank() == bad) fail(ErrorKind::data, "rank {} found nothing", bad);
              request->wait();
              for (;;) world.barrier();
            },
            options_of(path));
      });
      EXPECT_EQ(text, "rank " + std::to_string(bad) + " found nothing") << name_of(path);
    }
  }
}

// The failing rank's buffers go away at any moment of the others' work, with several operations begun.
TEST(FailingRanks, MayFailAtAnyMomentOfACollective) {
  for (const Path path : kPaths) {
    for (int moment = 0; moment < 30; ++moment) {
      const std::string text = error_of([&] {
        run_in_process(
            3,
            [&](Communicator& world) {
              const std::vector<int64_t> counts{30000, 0, 20000};
              std::vector<float> data(50000, 1.0F), given(50000, 2.0F);
              std::vector<float> mine(static_cast<size_t>(counts[static_cast<size_t>(world.rank())]));
              std::vector<RequestPtr> requests;
              requests.push_back(world.all_reduce_async(data, ReduceOp::sum));
              requests.push_back(world.reduce_scatter_async(given, mine, counts, ReduceOp::sum));
              for (int i = 0; i < moment && world.rank() == 1; ++i) world.progress();
              if (world.rank() == 1) fail(ErrorKind::data, "rank 1 fails");
              for (auto& request : requests) request->wait();
              world.barrier();
            },
            options_of(path));
      });
      EXPECT_EQ(text, "rank 1 fails") << name_of(path) << " " << moment;
    }
  }
}

// What a rank has finished before it returned counts; what it never began is reported.
TEST(FailingRanks, ARankMayReturnRightAfterACollective) {
  for (const Path path : kPaths) {
    for (int i = 0; i < 50; ++i) {
      run_in_process(
          4,
          [](Communicator& world) {
            std::vector<float> data(5000, 1.0F);
            world.all_reduce(std::span<float>(data), ReduceOp::sum);
            EXPECT_EQ(data, std::vector<float>(5000, 4.0F));
          },
          options_of(path));
    }
    const std::string text = error_of([&] {
      run_in_process(
          3,
          [](Communicator& world) {
            std::vector<float> data(5000, 1.0F);
            if (world.rank() != 1) world.all_reduce(std::span<float>(data), ReduceOp::sum);
          },
          options_of(path));
    });
    EXPECT_NE(text.find("waits for rank 1, which has returned"), std::string::npos) << name_of(path) << text;
  }
}

TEST(FailingRanks, ARankThatReturnsEarlyIsNamed) {
  const std::string text = error_of([] {
    run_in_process(3, [](Communicator& world) {
      if (world.rank() != 1) world.barrier();
    });
  });
  EXPECT_NE(text.find("waits for rank 1, which has returned"), std::string::npos) << text;
}

TEST(FailingRanks, AbortEndsAll) {
  const std::string text = error_of([] {
    run_in_process(3, [](Communicator& world) {
      if (world.rank() == 2) world.abort(75);
      world.barrier();
    });
  });
  EXPECT_EQ(text, "rank 2 ended the job with exit code 75");
}

// T10: mismatched operation, count, order.
TEST(CheckedCollectives, NameTheRanksThatCallSomethingElse) {
  CommOptions checked;
  checked.checked = true;
  const auto mismatch = [&checked](const std::function<void(Communicator&)>& odd) {
    return error_of([&] {
      run_in_process(
          4,
          [&](Communicator& world) {
            world.barrier();
            std::vector<float> data(10);
            if (world.rank() == 2) {
              odd(world);
            } else {
              world.all_reduce(std::span<float>(data), ReduceOp::sum);
            }
          },
          checked);
    });
  };
  const std::string count = mismatch([](Communicator& world) {
    std::vector<float> data(11);
    world.all_reduce(std::span<float>(data), ReduceOp::sum);
  });
  EXPECT_NE(count.find("does not match what these ranks call"), std::string::npos) << count;
  EXPECT_NE(count.find("count 1"), std::string::npos) << count;
  EXPECT_NE(count.find("comm_failure_test.cc"), std::string::npos) << count;
  EXPECT_NE(count.find("axis world"), std::string::npos) << count;
  const std::string operation = mismatch([](Communicator& world) { world.barrier(); });
  EXPECT_NE(operation.find("does not match"), std::string::npos) << operation;
  const std::string reduction = mismatch([](Communicator& world) {
    std::vector<float> data(10);
    world.all_reduce(std::span<float>(data), ReduceOp::max);
  });
  EXPECT_NE(reduction.find("does not match"), std::string::npos) << reduction;
}

// Without checked collectives, memory that is shared is safe all the same.
TEST(SharedMemory, RanksThatCallSomethingElseAreStopped) {
  for (const Path path : {Path::direct, Path::windows, Path::small_windows}) {
    const std::string text = error_of([&] {
      run_in_process(
          3,
          [](Communicator& world) {
            std::vector<float> data(world.rank() == 1 ? 5000 : 5001);
            world.all_reduce(std::span<float>(data), ReduceOp::sum);
          },
          options_of(path));
    });
    EXPECT_NE(text.find("of different kind or size"), std::string::npos) << text;
  }
}
}  // namespace
}  // namespace farsight
