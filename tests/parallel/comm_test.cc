// SPDX-License-Identifier: Apache-2.0
// The communicator over threads and alone, in all ways in which collectives can travel.
#include "parallel/comm.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/parallel/comm_cases.h"
#include "tests/parallel/comm_paths.h"
#include "tests/sanitized.h"

namespace farsight {
namespace {

using testing::name_of;
using testing::options_of;
using testing::Path;

class InProcess : public ::testing::TestWithParam<std::tuple<Path, int>> {
 protected:
  void run(void (*body)(Communicator&)) { run(body, options_of(std::get<Path>(GetParam()))); }
  void run(void (*body)(Communicator&), const CommOptions& options) {
    run_in_process(std::get<int>(GetParam()), body, options);
  }
};

TEST_P(InProcess, ReductionsAreExactAndOrdered) { run(testing::reductions_are_exact_and_ordered); }
TEST_P(InProcess, ReductionsTakeAnySize) { run(testing::reductions_take_any_size); }
TEST_P(InProcess, EveryTypeAndOperationIsOrdered) { run(testing::every_type_and_operation_is_ordered); }
TEST_P(InProcess, AsyncReductionsOverlap) { run(testing::async_reductions_overlap); }
TEST_P(InProcess, EverythingInFlightAtOnce) { run(testing::everything_in_flight_at_once); }
TEST_P(InProcess, NanSurvivesMaxAndMin) { run(testing::nan_survives_max_and_min); }
TEST_P(InProcess, BroadcastFromEveryRoot) { run(testing::broadcast_from_every_root); }
TEST_P(InProcess, AllGatherOfUnevenParts) { run(testing::all_gather_of_uneven_parts); }
TEST_P(InProcess, ReduceScatterIsOrdered) { run(testing::reduce_scatter_is_ordered); }
TEST_P(InProcess, AllToAllOfUnevenParts) { run(testing::all_to_all_of_uneven_parts); }
TEST_P(InProcess, MessagesKeepTheirOrder) { run(testing::messages_keep_their_order); }
TEST_P(InProcess, SplitsSeparateTraffic) { run(testing::splits_separate_traffic); }
TEST_P(InProcess, FlightLogRecordsOperations) { run(testing::flight_log_records_operations); }
TEST_P(InProcess, WaitingIsCounted) { run(testing::waiting_is_counted); }
TEST_P(InProcess, ErrorsBecomeGlobal) { run(testing::errors_become_global); }
TEST_P(InProcess, ReplicasAreCompared) { run(testing::replicas_are_compared); }

TEST_P(InProcess, CheckedCollectivesGiveTheSameResults) {
  CommOptions checked = options_of(std::get<Path>(GetParam()));
  checked.checked = true;
  run(testing::reductions_are_exact_and_ordered, checked);
  run(testing::async_reductions_overlap, checked);
  run(testing::broadcast_from_every_root, checked);
}

INSTANTIATE_TEST_SUITE_P(
    Paths, InProcess,
    ::testing::Combine(::testing::Values(Path::direct, Path::windows, Path::small_windows, Path::messages),
                       ::testing::ValuesIn(kSanitized ? std::vector{2, 3} : std::vector{1, 2, 3, 4, 8})),
    [](const auto& info) { return name_of(std::get<Path>(info.param)) + std::to_string(std::get<int>(info.param)); });

TEST(Messages, LongOnesAndReductionsAreCutIntoPieces) {
  CommOptions small = options_of(Path::messages);
  small.piece_bytes = 1000;
  small.staging_bytes = 10 * small.piece_bytes;
  for (const int ranks : {1, 2, 3, kSanitized ? 4 : 7}) {
    for (const auto body : {testing::reductions_are_exact_and_ordered, testing::async_reductions_overlap,
                            testing::messages_keep_their_order, testing::all_gather_of_uneven_parts,
                            testing::reduce_scatter_is_ordered, testing::all_to_all_of_uneven_parts}) {
      run_in_process(ranks, body, small);
    }
  }
}

// Numbers of very different size, so that another order of the sum gives other bits.
std::vector<std::vector<float>> wild_results(int ranks, size_t count, ReduceOp op, const CommOptions& options) {
  std::vector<std::vector<float>> results(static_cast<size_t>(ranks));
  const auto body = [&](Communicator& world) {
    std::mt19937 generator(static_cast<uint32_t>(world.rank()));
    std::uniform_real_distribution<float> mantissa(-1.0F, 1.0F);
    std::vector<float> data(count);
    for (float& x : data) x = std::ldexp(mantissa(generator), static_cast<int>(generator() % 40));
    if (count > 100) data[17] = std::numeric_limits<float>::infinity();
    world.all_reduce(std::span<float>(data), op);
    results[static_cast<size_t>(world.rank())] = data;
  };
  run_in_process(ranks, body, options, /*threads_per_rank=*/1);
  return results;
}

TEST(Paths, GiveTheSameBits) {
  for (const int ranks : {2, 3, 4, 8}) {
    for (const size_t count : {1UL, 129UL, 5000UL, 140003UL}) {
      for (const auto op : {ReduceOp::sum, ReduceOp::max}) {
        const auto expected = wild_results(ranks, count, op, options_of(Path::messages));
        for (const auto path : {Path::direct, Path::windows, Path::small_windows}) {
          const auto found = wild_results(ranks, count, op, options_of(path));
          for (size_t r = 0; r < found.size(); ++r) {
            EXPECT_EQ(std::memcmp(found[r].data(), expected[0].data(), count * sizeof(float)), 0)
                << name_of(path) << ", rank " << r << " of " << ranks << ", " << count << " elements";
          }
        }
      }
    }
  }
}

TEST(Paths, SeveralThreadsPerRankGiveTheSameBits) {
  const auto body = [](Communicator& world) {
    testing::reductions_take_any_size(world);
    testing::reduce_scatter_is_ordered(world);
    testing::all_gather_of_uneven_parts(world);
  };
  for (const auto path : {Path::direct, Path::windows, Path::messages}) {
    run_in_process(2, body, options_of(path), /*threads_per_rank=*/2);
  }
}

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
}  // namespace
}  // namespace farsight
