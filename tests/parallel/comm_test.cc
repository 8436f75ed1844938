// SPDX-License-Identifier: Apache-2.0
// The communicator over threads and alone, and what happens when ranks fail or disagree.
#include "parallel/comm.h"

#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "parallel/mpi_comm.h"
#include "parallel/ordered_reduce.h"
#include "tests/parallel/comm_cases.h"
#include "tests/sanitized.h"

namespace farsight {
namespace {

class InProcess : public ::testing::TestWithParam<int> {
 protected:
  void run(void (*body)(Communicator&), const CommOptions& options = {}) { run_in_process(GetParam(), body, options); }
};

TEST_P(InProcess, ReductionsAreExactAndOrdered) { run(testing::reductions_are_exact_and_ordered); }
TEST_P(InProcess, ReductionsTakeAnySize) { run(testing::reductions_take_any_size); }
TEST_P(InProcess, AsyncReductionsOverlap) { run(testing::async_reductions_overlap); }
TEST_P(InProcess, NanSurvivesMaxAndMin) { run(testing::nan_survives_max_and_min); }
TEST_P(InProcess, BroadcastFromEveryRoot) { run(testing::broadcast_from_every_root); }
TEST_P(InProcess, AllGatherOfUnevenParts) { run(testing::all_gather_of_uneven_parts); }
TEST_P(InProcess, ReduceScatterIsOrdered) { run(testing::reduce_scatter_is_ordered); }
TEST_P(InProcess, AllToAllOfUnevenParts) { run(testing::all_to_all_of_uneven_parts); }
TEST_P(InProcess, MessagesKeepTheirOrder) { run(testing::messages_keep_their_order); }
TEST_P(InProcess, SplitsSeparateTraffic) { run(testing::splits_separate_traffic); }
TEST_P(InProcess, FlightLogRecordsOperations) { run(testing::flight_log_records_operations); }
TEST_P(InProcess, ErrorsBecomeGlobal) { run(testing::errors_become_global); }
TEST_P(InProcess, ReplicasAreCompared) { run(testing::replicas_are_compared); }

TEST_P(InProcess, LongMessagesAndReductionsAreCutIntoPieces) {
  CommOptions small;
  small.piece_bytes = kSanitized ? 1000 : 100;
  small.staging_bytes = 10 * small.piece_bytes;
  run(testing::reductions_are_exact_and_ordered, small);
  run(testing::async_reductions_overlap, small);
  run(testing::messages_keep_their_order, small);
  run(testing::all_gather_of_uneven_parts, small);
  run(testing::reduce_scatter_is_ordered, small);
  run(testing::all_to_all_of_uneven_parts, small);
}

TEST_P(InProcess, CheckedCollectivesGiveTheSameResults) {
  CommOptions checked;
  checked.checked = true;
  run(testing::reductions_are_exact_and_ordered, checked);
  run(testing::async_reductions_overlap, checked);
  run(testing::broadcast_from_every_root, checked);
}

INSTANTIATE_TEST_SUITE_P(Ranks, InProcess, ::testing::Values(1, 2, 3, 4, 7));

TEST(SelfCommunicator, IsAWorldOfOne) {
  auto self = make_self_communicator();
  EXPECT_EQ(self->size(), 1);
  for (const auto body :
       {testing::reductions_are_exact_and_ordered, testing::reductions_take_any_size, testing::async_reductions_overlap,
        testing::broadcast_from_every_root, testing::all_gather_of_uneven_parts, testing::reduce_scatter_is_ordered,
        testing::all_to_all_of_uneven_parts, testing::splits_separate_traffic, testing::errors_become_global,
        testing::replicas_are_compared}) {
    body(*self);
  }
  std::byte b{};
  EXPECT_THROW(self->send({&b, 1}, 0, 0), Error);
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "(no error)";
}

TEST(FailingRanks, TheFirstErrorIsRethrownAndNobodyHangs) {
  for (int bad = 0; bad < 4; ++bad) {
    const std::string text = error_of([&] {
      run_in_process(4, [&](Communicator& world) {
        std::vector<float> data(100000, 1.0F);
        auto request = world.all_reduce_async(data, ReduceOp::sum);
        if (world.rank() == bad) fail(ErrorKind::data, "rank {} found nothing", bad);
        request->wait();
        for (;;) world.barrier();
      });
    });
    EXPECT_EQ(text, "rank " + std::to_string(bad) + " found nothing");
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
  EXPECT_NE(count.find("comm_test.cc"), std::string::npos) << count;
  EXPECT_NE(count.find("axis world"), std::string::npos) << count;
  const std::string operation = mismatch([](Communicator& world) { world.barrier(); });
  EXPECT_NE(operation.find("does not match"), std::string::npos) << operation;
  const std::string reduction = mismatch([](Communicator& world) {
    std::vector<float> data(10);
    world.all_reduce(std::span<float>(data), ReduceOp::max);
  });
  EXPECT_NE(reduction.find("does not match"), std::string::npos) << reduction;
}

TEST(OrderedReduction, IsTheLeftToRightSum) {
  const std::vector<float> a{1e8F, 1.0F}, b{-1e8F, 2.0F}, c{1.0F, 4.0F};
  const float* parts[] = {a.data(), b.data(), c.data()};
  std::vector<float> out(2);
  reduce_in_order<float>(parts, out.data(), 2, ReduceOp::sum);
  EXPECT_EQ(out, (std::vector<float>{1.0F, 7.0F}));  // (1e8 - 1e8) + 1; any other order gives 0
}

TEST(Launcher, SingletonsAreRefusedByNameOfTheRemedy) {
  refuse_singletons(1, 1);
  refuse_singletons(4, 4);
  const std::string text = error_of([] { refuse_singletons(4, 1); });
  EXPECT_NE(text.find("srun --mpi=pmix"), std::string::npos) << text;
  EXPECT_NE(text.find("started 4 processes"), std::string::npos) << text;
}

}  // namespace
}  // namespace farsight
