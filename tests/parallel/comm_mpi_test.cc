// SPDX-License-Identifier: Apache-2.0
// The communicator between processes, for several numbers of ranks and ways of travelling (mpi_main.cc): the same cases
// as between threads, and memory that cannot be shared.
#include <sys/resource.h>

#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <mpi.h>

#include "parallel/comm_measure.h"
#include "parallel/mpi_area.h"
#include "tests/parallel/comm_cases.h"
#include "tests/parallel/mpi_world.h"

namespace farsight {
namespace {

using testing::mpi_world;

TEST(CommMpi, ReductionsAreExactAndOrdered) { testing::reductions_are_exact_and_ordered(mpi_world()); }
TEST(CommMpi, ReductionsTakeAnySize) { testing::reductions_take_any_size(mpi_world()); }
TEST(CommMpi, EveryTypeAndOperationIsOrdered) { testing::every_type_and_operation_is_ordered(mpi_world()); }
TEST(CommMpi, AsyncReductionsOverlap) { testing::async_reductions_overlap(mpi_world()); }
TEST(CommMpi, EverythingInFlightAtOnce) {
  for (int i = 0; i < 5; ++i) testing::everything_in_flight_at_once(mpi_world());
}
TEST(CommMpi, NanSurvivesMaxAndMin) { testing::nan_survives_max_and_min(mpi_world()); }
TEST(CommMpi, BroadcastFromEveryRoot) { testing::broadcast_from_every_root(mpi_world()); }
TEST(CommMpi, AllGatherOfUnevenParts) { testing::all_gather_of_uneven_parts(mpi_world()); }
TEST(CommMpi, ReduceScatterIsOrdered) { testing::reduce_scatter_is_ordered(mpi_world()); }
TEST(CommMpi, AllToAllOfUnevenParts) { testing::all_to_all_of_uneven_parts(mpi_world()); }
TEST(CommMpi, WaitingIsCounted) { testing::waiting_is_counted(mpi_world()); }
TEST(CommMpi, SplitsSeparateTraffic) { testing::splits_separate_traffic(mpi_world()); }

TEST(CommMpi, PatternsCanBeMeasured) {
  for (const CommPattern pattern : kCommPatterns) EXPECT_GT(measure_seconds(mpi_world(), pattern, 5000, 3), 0.0);
}

TEST(CommMpi, RanksOfOneNodeShareMemory) {
  const MpiArea area = make_mpi_area(MPI_COMM_WORLD, {});
  const bool alone = mpi_world().size() == 1;
  EXPECT_EQ(area.area == nullptr, alone);
  EXPECT_EQ(area.description.substr(0, 8), alone ? "one rank" : "shared m");
  CommOptions none;
  none.window_bytes = 0;
  EXPECT_EQ(make_mpi_area(MPI_COMM_WORLD, none).area, nullptr);
}

// The last rank can open no more files.
TEST(CommMpi, WhereOneRankCannotMapTheMemoryAllUseMessages) {
  const int last = mpi_world().size() - 1;
  ASSERT_GT(last, 0) << "run it on two ranks at least";
  rlimit usual{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit none{0, usual.rlim_max};
  const bool limited = mpi_world().rank() == last;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, limited ? &none : &usual), 0);
  const MpiArea area = make_mpi_area(MPI_COMM_WORLD, {});
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_EQ(area.area, nullptr);
  EXPECT_EQ(area.description.find("messages: rank " + std::to_string(last) + ": cannot open /proc/"), 0U)
      << area.description;
}

}  // namespace
}  // namespace farsight
