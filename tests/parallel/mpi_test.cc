// SPDX-License-Identifier: Apache-2.0
// The communicator and the ring over MPI: the same cases as in one process.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "parallel/mesh.h"
#include "parallel/mpi_comm.h"
#include "tests/parallel/comm_cases.h"
#include "tests/parallel/context_case.h"
#include "tests/parallel/mpi_world.h"
#include "tests/parallel/ring_case.h"

namespace farsight {
namespace {

using testing::mpi_world;

TEST(Mpi, ReductionsAreExactAndOrdered) { testing::reductions_are_exact_and_ordered(mpi_world()); }
TEST(Mpi, ReductionsTakeAnySize) { testing::reductions_take_any_size(mpi_world()); }
TEST(Mpi, AsyncReductionsOverlap) { testing::async_reductions_overlap(mpi_world()); }
TEST(Mpi, NanSurvivesMaxAndMin) { testing::nan_survives_max_and_min(mpi_world()); }
TEST(Mpi, BroadcastFromEveryRoot) { testing::broadcast_from_every_root(mpi_world()); }
TEST(Mpi, AllGatherOfUnevenParts) { testing::all_gather_of_uneven_parts(mpi_world()); }
TEST(Mpi, ReduceScatterIsOrdered) { testing::reduce_scatter_is_ordered(mpi_world()); }
TEST(Mpi, AllToAllOfUnevenParts) { testing::all_to_all_of_uneven_parts(mpi_world()); }
TEST(Mpi, MessagesKeepTheirOrder) { testing::messages_keep_their_order(mpi_world()); }
TEST(Mpi, SplitsSeparateTraffic) { testing::splits_separate_traffic(mpi_world()); }
TEST(Mpi, FlightLogRecordsOperations) { testing::flight_log_records_operations(mpi_world()); }
TEST(Mpi, ErrorsBecomeGlobal) { testing::errors_become_global(mpi_world()); }
TEST(Mpi, ReplicasAreCompared) { testing::replicas_are_compared(mpi_world()); }

TEST(Mpi, LauncherAndWorldAgree) { EXPECT_EQ(launched_ranks(), mpi_world().size()); }

TEST(Mpi, MeshOfEveryLayoutReduces) {
  Communicator& world = mpi_world();
  for (int64_t ring = 1; ring <= world.size(); ++ring) {
    if (world.size() % ring != 0) continue;
    ParallelOptions options;
    options.ring = ring;
    Mesh mesh(world, options);
    EXPECT_EQ(mesh.ring().size(), ring);
    EXPECT_EQ(mesh.dp().size(), world.size() / ring);
    EXPECT_EQ(mesh.dp_cp().size(), world.size());
    EXPECT_EQ(mesh.ring().rank(), mesh.coordinate().ring);
    int64_t one = 1;
    mesh.dp_cp().all_reduce(std::span<int64_t>(&one, 1), ReduceOp::sum);
    EXPECT_EQ(one, world.size());
  }
}

// Sums what the ranks found (rows of other ranks are zero) and compares it bit by bit with the in-process run.
void expect_same_bits(Communicator& world, testing::RingNumbers found, const testing::RingNumbers& expected) {
  for (auto* v : {&found.out, &found.lse, &found.entropy, &found.dq, &found.dk, &found.dv, &found.dy}) {
    world.all_reduce(std::span<double>(*v), ReduceOp::sum);
  }
  EXPECT_EQ(found.out, expected.out);
  EXPECT_EQ(found.lse, expected.lse);
  EXPECT_EQ(found.entropy, expected.entropy);
  EXPECT_EQ(found.dq, expected.dq);
  EXPECT_EQ(found.dk, expected.dk);
  EXPECT_EQ(found.dv, expected.dv);
  EXPECT_EQ(found.dy, expected.dy);
}

// Every rank computes the whole problem with in-process ranks and compares.
TEST(Mpi, RingGivesTheBitsOfTheInProcessRing) {
  Communicator& world = mpi_world();
  for (const auto feature : {testing::RingFeature::documents, testing::RingFeature::dropout,
                             testing::RingFeature::window, testing::RingFeature::additive}) {
    const auto c = testing::make_ring_case(feature, 97, 4, 2, 13);
    for (const auto order : {SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
      const SequenceLayout layout(order, 97, world.size());
      auto expected = testing::empty_numbers(c);
      run_in_process(world.size(), [&](Communicator& ring) { testing::run_ring(ring, c, layout, expected); });
      auto found = testing::empty_numbers(c);
      testing::run_ring(world, c, layout, found);
      expect_same_bits(world, found, expected);
    }
  }
}

// Two ulysses ranks, the others in the ring; 5 tokens leave ranks without any.
TEST(Mpi, ContextSchemesGiveTheBitsOfInProcessRanks) {
  Communicator& world = mpi_world();
  for (const int64_t tokens : {97, 5, 1}) {
    const auto c = testing::make_ring_case(testing::RingFeature::additive, tokens, 6, 2, 13);
    for (const auto scheme :
         {ContextScheme::ring, ContextScheme::all_gather, ContextScheme::ulysses, ContextScheme::two_d}) {
      const testing::ContextLayout layout{SequenceOrder::striped, world.size() / 2, 2, scheme, 1};
      auto expected = testing::empty_numbers(c);
      run_in_process(world.size(), [&](Communicator& ranks) { testing::run_context(ranks, c, layout, expected); });
      auto found = testing::empty_numbers(c);
      testing::run_context(world, c, layout, found);
      expect_same_bits(world, found, expected);
    }
  }
}

}  // namespace
}  // namespace farsight
