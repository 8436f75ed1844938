// SPDX-License-Identifier: Apache-2.0
// T1: the grid's arithmetic for all worlds up to 64 ranks; refusals; communicators of a live mesh.
#include "parallel/mesh.h"

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"

namespace farsight {
namespace {

std::vector<int64_t> divisors(int64_t n) {
  std::vector<int64_t> result;
  for (int64_t d = 1; d <= n; ++d) {
    if (n % d == 0) result.push_back(d);
  }
  return result;
}

void for_each_mesh(int64_t world, const std::function<void(const MeshShape&)>& body) {
  for (const int64_t pp : divisors(world)) {
    for (const int64_t dp : divisors(world / pp)) {
      for (const int64_t ring : divisors(world / pp / dp)) {
        for (const int64_t uly : divisors(world / pp / dp / ring)) {
          const int64_t tp = world / pp / dp / ring / uly;
          for (const int64_t part : divisors(dp * ring * uly)) {
            for (const int64_t kvrep : divisors(tp)) body(MeshShape(pp, dp, ring, uly, tp, part, part, kvrep));
          }
        }
      }
    }
  }
}

TEST(MeshShape, RanksAndCoordinatesRoundTripInEveryWorld) {
  for (int64_t world = 1; world <= 64; ++world) {
    for_each_mesh(world, [world](const MeshShape& mesh) {
      ASSERT_EQ(mesh.world(), world);
      for (int64_t rank = 0; rank < world; ++rank) {
        const Coordinate c = mesh.coordinate(rank);
        ASSERT_EQ(mesh.rank(c), rank);
        ASSERT_TRUE(c.pp < mesh.extent(Axis::pp) && c.dp < mesh.extent(Axis::dp) && c.ring < mesh.extent(Axis::ring) &&
                    c.uly < mesh.extent(Axis::uly) && c.tp < mesh.extent(Axis::tp));
        // Every folding counts the same ranks, its second axis fastest.
        const int64_t data_context = (c.dp * mesh.extent(Axis::ring) + c.ring) * mesh.extent(Axis::uly) + c.uly;
        ASSERT_EQ(mesh.index(rank, Axis::edp) * mesh.extent(Axis::ep) + mesh.index(rank, Axis::ep), data_context);
        ASSERT_EQ(mesh.index(rank, Axis::zrep) * mesh.extent(Axis::zero) + mesh.index(rank, Axis::zero), data_context);
        ASSERT_EQ(mesh.index(rank, Axis::kvshard) * mesh.extent(Axis::kvrep) + mesh.index(rank, Axis::kvrep), c.tp);
      }
    });
  }
}

TEST(MeshShape, TensorRanksAreAdjacentAndPipelineRanksFarthestApart) {
  const MeshShape mesh(2, 2, 2, 2, 2);
  EXPECT_EQ(mesh.group(5, {Axis::tp}), (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(mesh.group(5, {Axis::uly}), (std::vector<int64_t>{5, 7}));
  EXPECT_EQ(mesh.group(5, {Axis::ring}), (std::vector<int64_t>{1, 5}));
  EXPECT_EQ(mesh.group(5, {Axis::dp}), (std::vector<int64_t>{5, 13}));
  EXPECT_EQ(mesh.group(5, {Axis::pp}), (std::vector<int64_t>{5, 21}));
  EXPECT_EQ(mesh.group(0, kContextAxes), (std::vector<int64_t>{0, 2, 4, 6}));
}

// Groups of an axis set partition the world into sets of equal size that agree on every other axis.
TEST(MeshShape, GroupsPartitionEveryWorld) {
  const std::vector<AxisSet> sets{{},
                                  {Axis::pp},
                                  {Axis::dp},
                                  {Axis::ring},
                                  {Axis::uly},
                                  {Axis::tp},
                                  {Axis::ep},
                                  {Axis::edp},
                                  {Axis::zero},
                                  {Axis::zrep},
                                  {Axis::kvrep},
                                  {Axis::kvshard},
                                  {Axis::kvrep, Axis::zero},
                                  kContextAxes,
                                  kDataContextAxes,
                                  kAllAxes};
  for (const int64_t world : {1, 2, 6, 12, 24, 64}) {
    for_each_mesh(world, [&](const MeshShape& mesh) {
      for (const AxisSet axes : sets) {
        std::set<std::vector<int64_t>> groups;
        for (int64_t rank = 0; rank < world; rank += std::max<int64_t>(1, world / 8)) {
          const auto group = mesh.group(rank, axes);
          ASSERT_EQ(static_cast<int64_t>(group.size()), mesh.extent(axes));
          ASSERT_TRUE(std::is_sorted(group.begin(), group.end()));
          ASSERT_TRUE(std::binary_search(group.begin(), group.end(), rank));
          ASSERT_EQ(mesh.group(group.front(), axes), group);
        }
      }
    });
  }
  const MeshShape mesh(1, 4, 1, 1, 4, 2, 2, 2);
  EXPECT_THROW(mesh.group(0, {Axis::ep, Axis::dp}), Error);
  EXPECT_THROW(mesh.group(0, {Axis::ep, Axis::zero}), Error);
  EXPECT_THROW(mesh.group(0, {Axis::tp, Axis::kvrep}), Error);
}

TEST(MeshShape, ExtentsThatCannotBeAreRefused) {
  EXPECT_THROW(MeshShape(1, 0, 1, 1, 1), Error);
  EXPECT_THROW(MeshShape(1, 4, 1, 1, 1, 3), Error);
  EXPECT_THROW(MeshShape(1, 4, 1, 1, 1, 1, 3), Error);
  EXPECT_THROW(MeshShape(1, 1, 1, 1, 4, 1, 1, 3), Error);
}

std::string refusal(const ParallelOptions& options, int64_t world) {
  try {
    resolve_mesh(options, world);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::config);
    return e.what();
  }
  return "(accepted)";
}

TEST(ResolveMesh, AutoTakesWhatTheOthersLeave) {
  ParallelOptions options;
  options.ring = 2;
  EXPECT_EQ(resolve_mesh(options, 8).extent(Axis::dp), 4);
  options.data = 4;
  EXPECT_EQ(resolve_mesh(options, 8).extent(Axis::ring), 2);
}

TEST(ResolveMesh, NamesEveryProblemAndWhatIsAvailable) {
  ParallelOptions options;
  options.ring = 0;
  options.pipeline = 2;
  options.expert = 4;
  const std::string text = refusal(options, 16);
  for (const char* part : {"parallel.pipeline = 2", "parallel.expert = 4", "available: 1", "parallel.ring = 0"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in: " << text;
  }
  ParallelOptions group;
  group.ring = 2;
  group.zero_group = 3;
  EXPECT_NE(refusal(group, 4).find("parallel.zero_group = 3 does not divide"), std::string::npos);
}

TEST(ResolveMesh, ExtentsMustMultiplyToTheWorld) {
  ParallelOptions options;
  options.ring = 3;
  EXPECT_NE(refusal(options, 8).find("parallel.ring = 3 does not divide the 8 ranks"), std::string::npos);
  options.data = 2;
  EXPECT_NE(refusal(options, 8).find("needs 6 ranks, this job has 8"), std::string::npos);
  options.ring = 0;
  EXPECT_NE(refusal(options, 8).find("parallel.ring = 0: must be at least 1"), std::string::npos);
}

TEST(Mesh, CommunicatorsFollowTheGrid) {
  for (const int64_t ring : {1, 2, 3, 6}) {
    run_in_process(6, [ring](Communicator& world) {
      ParallelOptions options;
      options.ring = ring;
      Mesh mesh(world, options);
      EXPECT_EQ(mesh.ring().size(), ring);
      EXPECT_EQ(mesh.ring().rank(), world.rank() % ring);
      EXPECT_EQ(mesh.dp().size(), 6 / ring);
      EXPECT_EQ(mesh.dp().rank(), world.rank() / ring);
      EXPECT_EQ(mesh.dp_cp().size(), 6);
      EXPECT_EQ(mesh.dp_cp().rank(), world.rank());
      EXPECT_EQ(mesh.communicator({}).size(), 1);
      EXPECT_EQ(mesh.communicator(kDataContextAxes).size(), 6);
      EXPECT_EQ(mesh.coordinate().ring, mesh.ring().rank());
      int64_t sum = world.rank();
      mesh.ring().all_reduce(std::span<int64_t>(&sum, 1), ReduceOp::sum);
      const int64_t first = world.rank() / ring * ring;
      EXPECT_EQ(sum, ring * first + ring * (ring - 1) / 2);
    });
  }
}

TEST(Mesh, RefusesOnAllRanksAlike) {
  EXPECT_THROW(run_in_process(4,
                              [](Communicator& world) {
                                ParallelOptions options;
                                options.tensor = 3;
                                EXPECT_THROW(Mesh(world, options), Error);
                                world.barrier();  // nobody was left inside a collective
                                Mesh(world, options);
                              }),
               Error);
}

}  // namespace
}  // namespace farsight
