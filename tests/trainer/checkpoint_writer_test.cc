// SPDX-License-Identifier: Apache-2.0
// The asynchronous protocol: stall, skips, order, retention, the lock, and what survives.
#include <array>
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/faults/checkpoint_sample.h"
#include "tests/faults/faulty_file_system.h"
#include "tests/faults/memory_file_system.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/commit.h"
#include "trainer/checkpoint/load.h"

namespace farsight {
namespace {

const ResumeRequest kAuto{ResumeRequest::Mode::automatic, {}};
const std::string kRun = "run/checkpoints";

// One step of a training loop: the status travels in the step's own all-reduce.
StepReport loop_step(CheckpointWriter& writer, Communicator& world, int64_t step, bool save, bool wait = false) {
  const SaveStatus mine = writer.status();
  std::array<int64_t, 4> flags{save ? 1 : 0, wait ? 1 : 0, mine.busy, mine.failure};
  world.all_reduce(std::span<int64_t>(flags), ReduceOp::max);
  const SampleState sample(tiny_tensors(), step);  // gone when the step is over
  return writer.step({flags[0] != 0, flags[1] != 0, {flags[2], flags[3]}}, [&] { return sample.snapshot(world); });
}

// F15: 50 saves on a slow disk.
TEST(Async, SlowDiskCostsTheLoopOnlyTheCopy) {
  MemoryFileSystem memory;
  FaultPlan plan;
  plan.write_delay_s = 0.002;  // five or more writes per shard
  FaultyFileSystem slow(memory, plan);
  constexpr int64_t kRanks = 2, kSaves = 50;
  run_in_process(kRanks, [&](Communicator& world) {
    CheckpointWriter writer(sample_options(kRun), slow, world, nullptr);
    writer.reserve(1 << 20);

    for (int64_t step = 1; step <= kSaves; ++step) {
      loop_step(writer, world, step, /*save=*/true);

      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const int64_t last = loop_step(writer, world, kSaves + 1, true, true).committed_step;
    const CheckpointMetrics metrics = writer.metrics();
    if (last != kSaves + 1) throw std::runtime_error("the requested save was not committed");
    if (metrics.committed + metrics.skipped != kSaves + 1) throw std::runtime_error("saves went missing");
    if (metrics.skipped == 0 || metrics.committed < 3) throw std::runtime_error("the disk was not slow");
    if (metrics.failed != 0) throw std::runtime_error("failures");
    // A generous bound for a loaded machine and sanitizers; the disk alone takes 10 ms and more per save.
    if (metrics.stall_ms / static_cast<double>(metrics.committed) > 8) {
      throw std::runtime_error("mean stall " +
                               std::to_string(metrics.stall_ms / static_cast<double>(metrics.committed)) + " ms");
    }
  });
  EXPECT_LE(slow.most_writers_at_once(), kRanks);
  const std::vector<Candidate> kept = list_checkpoints(memory, kRun);
  ASSERT_EQ(kept.size(), 3U);
  for (const Candidate& candidate : kept) verify_checkpoint(memory, candidate.path, VerifyLevel::full);
  EXPECT_EQ(load_sample(memory, kRun, kAuto, tiny_tensors()), kSaves + 1);
  EXPECT_TRUE(leftovers(memory, kRun).empty());
}

TEST(Async, CommitsWithinTheFollowingStepsAndInOrder) {
  MemoryFileSystem files;
  run_in_process(3, [&](Communicator& world) {
    CheckpointWriter writer(sample_options(kRun), files, world, nullptr);
    std::vector<int64_t> committed;
    for (int64_t step = 1; step <= 2000 && committed.size() < 4; ++step) {
      const StepReport report = loop_step(writer, world, step, /*save=*/step <= 4);
      if (report.committed_step >= 0) committed.push_back(report.committed_step);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    for (size_t i = 1; i < committed.size(); ++i) {
      if (committed[i] <= committed[i - 1]) throw std::runtime_error("out of order");
    }
    const CheckpointMetrics m = writer.metrics();
    if (static_cast<int64_t>(committed.size()) + m.skipped != 4) throw std::runtime_error("lost saves");
    if (m.bytes <= 0) throw std::runtime_error("no bytes counted");
  });
}

TEST(Async, EndingWithoutFinishLeavesOnlyATemporary) {
  MemoryFileSystem files;
  const auto world = make_self_communicator();
  save_sample(files, *world, sample_options(kRun), tiny_tensors(), 1);
  {
    CheckpointWriter writer(sample_options(kRun), files, *world, nullptr);
    loop_step(writer, *world, 2, /*save=*/true);
  }
  EXPECT_EQ(leftovers(files, kRun).size(), 1U);
  EXPECT_EQ(load_sample(files, kRun, kAuto, tiny_tensors()), 1);
  const RunLock lock(files, kRun);
  EXPECT_TRUE(leftovers(files, kRun).empty());
}

TEST(Async, FinishCommitsWhatIsInFlight) {
  MemoryFileSystem files;
  run_in_process(2, [&](Communicator& world) {
    CheckpointWriter writer(sample_options(kRun), files, world, nullptr);
    loop_step(writer, world, 1, true);
    loop_step(writer, world, 2, true);
    if (writer.finish().committed_step != 2) throw std::runtime_error("not committed");
  });
  EXPECT_EQ(load_sample(files, kRun, kAuto, tiny_tensors()), 2);
}

TEST(Snapshots, AnErrorOnOneRankReachesAll) {
  MemoryFileSystem files;
  run_in_process(2, [&](Communicator& world) {
    CheckpointWriter writer(sample_options(kRun), files, world, nullptr);
    SampleState state(tiny_tensors(), 1);  // a snapshot only points into it
    try {
      writer.step({true, true, {}}, [&]() -> Snapshot {
        if (world.rank() == 1) fail(ErrorKind::internal, "no state");
        return state.snapshot(world);
      });
    } catch (const Error& error) {
      if (std::string(error.what()).find("no state") == std::string::npos) throw;
      return;
    }
    throw std::runtime_error("unnoticed");
  });
}

TEST(Snapshots, SlicesThatLeaveAGapAreNeverCommitted) {
  MemoryFileSystem files;
  run_in_process(2, [&](Communicator& world) {
    CheckpointWriter writer(sample_options(kRun), files, world, nullptr);
    const SampleState sample(sample_tensors(), 1);  // the first slice of rank 1 is a part of a tensor
    const StepReport report = writer.step({true, true, {}}, [&] {
      Snapshot snapshot = sample.snapshot(world);
      if (world.rank() == 1) snapshot.slices.erase(snapshot.slices.begin());
      return snapshot;
    });
    if (report.failures.size() != 1 || report.committed_step >= 0) throw std::runtime_error("committed a gap");
  });
  EXPECT_TRUE(list_checkpoints(files, kRun).empty());
}

TEST(Committing, AStepThatIsThereAlreadyIsSetAside) {
  MemoryFileSystem files;
  const auto world = make_self_communicator();
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(save_sample(files, *world, sample_options(kRun), tiny_tensors(), 7).committed_step, 7);
  }
  const std::vector<std::string> names = list_sorted(files, kRun);
  ASSERT_EQ(names.size(), 3U);
  EXPECT_EQ(names[0].find(".bad-step-00000007-"), 0U);
  EXPECT_EQ(load_sample(files, kRun, kAuto, tiny_tensors()), 7);
}

TEST(Retention, KeepsNewestMultiplesHealthyAndLoaded) {
  MemoryFileSystem files;
  const auto world = make_self_communicator();
  CheckpointOptions options = sample_options(kRun);
  options.keep = 2;
  options.keep_every = 4;
  options.loaded_step = 1;
  CheckpointWriter writer(options, files, *world, nullptr);
  for (int64_t step = 1; step <= 9; ++step) {
    loop_step(writer, *world, step, true, true);
    if (step == 3 || step == 6) mark_healthy(files, kRun, step);
  }
  std::vector<int64_t> steps;
  for (const Candidate& candidate : list_checkpoints(files, kRun)) steps.push_back(candidate.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{9, 8, 6, 4, 1}));
}

TEST(Fencing, AnOrphanThatLostTheLockStopsWith69AndTouchesNothing) {
  MemoryFileSystem files;
  const auto world = make_self_communicator();
  RunLock lock(files, kRun);
  ASSERT_EQ(save_sample(files, *world, sample_options(kRun), tiny_tensors(), 1, &lock).committed_step, 1);
  files.content(kRun + "/run.lock").replace(files.content(kRun + "/run.lock").find(R"("token":")") + 9, 4, "ffff");
  try {
    save_sample(files, *world, sample_options(kRun), tiny_tensors(), 2, &lock);
    FAIL() << "committed without the lock";
  } catch (const Error& error) {
    EXPECT_EQ(exit_code(error.kind()), 69);
    EXPECT_NE(std::string(error.what()).find("run.lock belongs to another job"), std::string::npos) << error.what();
  }
  EXPECT_EQ(load_sample(files, kRun, kAuto, tiny_tensors()), 1);
  EXPECT_TRUE(leftovers(files, kRun).empty());
  EXPECT_TRUE(exists(files, kRun + "/run.lock"));
}

TEST(Options, IllegalOnesAreRefused) {
  MemoryFileSystem files;
  const auto world = make_self_communicator();
  const auto refused = [&](auto change) {
    CheckpointOptions options = sample_options(kRun);
    change(options);
    EXPECT_THROW(CheckpointWriter(options, files, *world, nullptr), Error);
  };
  refused([](CheckpointOptions& o) { o.keep = 0; });
  refused([](CheckpointOptions& o) { o.chunk_bytes = 1000; });
  refused([](CheckpointOptions& o) { o.chunk_bytes = 32 << 20; });
  refused([](CheckpointOptions& o) { o.buffers = 0; });
  refused([](CheckpointOptions& o) { o.fail_limit = 0; });
}

}  // namespace
}  // namespace farsight
