// SPDX-License-Identifier: Apache-2.0
// What the communicator is made of: shared segments, ordered arithmetic, measurements, the launcher's check.
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/comm_measure.h"
#include "parallel/inproc_comm.h"
#include "parallel/mpi_comm.h"
#include "parallel/ordered_reduce.h"
#include "parallel/shared_segment.h"
#include "tests/parallel/comm_paths.h"

namespace farsight {
namespace {

using testing::error_of;

TEST(SharedSegment, IsTheSameMemoryUntilItIsSealed) {
  SharedSegment made(100000);
  const SharedSegment mapped(made.address());
  EXPECT_EQ(made.data()[99999], std::byte{0});
  made.data()[99999] = std::byte{7};
  EXPECT_EQ(mapped.data()[99999], std::byte{7});
  SharedSegment::Address wrong = made.address();
  ++wrong.token;
  EXPECT_NE(error_of([&] { const SharedSegment s(wrong); }).find("is not the memory of the other rank"),
            std::string::npos);
  made.seal();
  EXPECT_NE(error_of([&] { const SharedSegment s(made.address()); }), "(no error)");
  EXPECT_EQ(mapped.data()[99999], std::byte{7});
}

TEST(OrderedReduction, IsTheLeftToRightSum) {
  const std::vector<float> a{1e8F, 1.0F}, b{-1e8F, 2.0F}, c{1.0F, 4.0F};
  const float* parts[] = {a.data(), b.data(), c.data()};
  std::vector<float> out(2);
  reduce_in_order<float>(parts, out.data(), 2, ReduceOp::sum);
  EXPECT_EQ(out, (std::vector<float>{1.0F, 7.0F}));  // (1e8 - 1e8) + 1; any other order gives 0
}

TEST(OrderedReduction, EqualsTheScalarLoopForEverySizeAndPlace) {
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  for (const size_t ranks : {1UL, 2UL, 3UL, 5UL}) {
    for (const size_t count : {0UL, 1UL, 63UL, 64UL, 65UL, 300UL, 40000UL}) {
      for (const auto op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
        std::vector<std::vector<float>> given(ranks, std::vector<float>(count + 3));
        for (auto& g : given) {
          for (float& x : g) x = generator() % 50 == 0 ? std::numeric_limits<float>::quiet_NaN() : normal(generator);
        }
        const size_t offset = count % 3;  // not aligned
        std::vector<float> expected(count), elsewhere(count);
        for (size_t i = 0; i < count; ++i) {
          expected[i] = given[0][offset + i];
          for (size_t r = 1; r < ranks; ++r) expected[i] = reduce_pair(expected[i], given[r][offset + i], op);
        }
        std::vector<const float*> in;
        std::vector<float*> out{elsewhere.data()};
        for (auto& g : given) {
          in.push_back(g.data() + offset);
          out.push_back(g.data() + offset);
        }
        reduce_in_order<float>(in, std::span<float* const>(out), static_cast<int64_t>(count), op,
                               /*with_team=*/count > 1000);
        for (const float* o : out) {
          for (size_t i = 0; i < count; ++i) {
            ASSERT_TRUE(o[i] == expected[i] || (std::isnan(o[i]) && std::isnan(expected[i]))) << i << " of " << count;
          }
        }
      }
    }
  }
}

TEST(CommCost, FindsTheLineAndStaysPositive) {
  std::vector<CommSample> samples;
  for (int64_t bytes = 16; bytes < 100000000; bytes *= 8) samples.push_back({bytes, 2e-6 + 1e-10 * double(bytes)});
  const CommCost cost = fit_cost(samples);
  EXPECT_NEAR(cost.alpha_s, 2e-6, 1e-12);
  EXPECT_NEAR(cost.beta_s_per_byte, 1e-10, 1e-16);
  EXPECT_NEAR(cost.seconds(1000000), 1.02e-4, 1e-10);
  const CommSample falling[] = {{1000, 2e-6}, {100000, 1e-6}};
  EXPECT_EQ(fit_cost(falling).beta_s_per_byte, 0.0);
  const CommSample steep[] = {{1000, 1e-7}, {100000, 1e-4}};
  EXPECT_EQ(fit_cost(steep).alpha_s, 0.0);
  const CommSample one[] = {{1000, 1e-6}};
  EXPECT_NEAR(fit_cost(one).seconds(1000), 1e-6, 1e-12);
}

TEST(CommProbe, RunsEveryPatternAndAllRanksGetTheSameTime) {
  for (const CommPattern pattern : kCommPatterns) {
    std::vector<double> times(3);
    run_in_process(3, [&](Communicator& world) {
      times[static_cast<size_t>(world.rank())] = measure_seconds(world, pattern, 10001, 3);
      const CommProbe probe(world, pattern, 10001);
      EXPECT_EQ(probe.bytes(), 10008);
    });
    EXPECT_GT(times[0], 0.0) << to_string(pattern);
    EXPECT_EQ(times, std::vector<double>(3, times[0]));
  }
  auto self = make_self_communicator();
  EXPECT_THROW(CommProbe(*self, CommPattern::ring, 100), Error);
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
