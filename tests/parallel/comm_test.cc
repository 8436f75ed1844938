// SPDX-License-Identifier: Apache-2.0
// The communicator over threads and alone, and what happens when ranks fail or disagree.
#include "parallel/comm.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/comm_measure.h"
#include "parallel/inproc_comm.h"
#include "parallel/mpi_comm.h"
#include "parallel/ordered_reduce.h"
#include "parallel/shared_segment.h"
#include "tests/parallel/comm_cases.h"
#include "tests/sanitized.h"

namespace farsight {
namespace {

// How large collectives travel between threads.
enum class Path { direct, windows, small_windows, messages };

CommOptions options_of(Path path) {
  CommOptions options;
  options.direct = path == Path::direct;
  if (path != Path::direct) options.shared_bytes = 1;  // the smallest too
  if (path == Path::small_windows) options.window_bytes = kSanitized ? 16384 : 4096;
  if (path == Path::messages) options.shared_bytes = std::numeric_limits<int64_t>::max();
  return options;
}

std::string name_of(Path path) {
  switch (path) {
    case Path::direct:
      return "Direct";
    case Path::windows:
      return "Windows";
    case Path::small_windows:
      return "SmallWindows";
    case Path::messages:
      return "Messages";
  }
  return "";
}

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
                       ::testing::Values(1, 2, 3, 4, 8)),
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

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "(no error)";
}

constexpr Path kPaths[] = {Path::direct, Path::windows, Path::small_windows, Path::messages};

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
