// SPDX-License-Identifier: Apache-2.0
// A save is killed, or the power fails, at each of its file calls: what is loaded afterwards is the previous or the new
// checkpoint, complete, and the next start leaves nothing behind.
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/faults/checkpoint_sample.h"
#include "tests/faults/faulty_file_system.h"
#include "tests/faults/memory_file_system.h"
#include "trainer/checkpoint/load.h"
#include "trainer/run_lock.h"

namespace farsight {
namespace {

const ResumeRequest kAuto{ResumeRequest::Mode::automatic, {}};
constexpr const char* kRun = "run/checkpoints";

enum class Death { kill, power, power_partly };

CheckpointOptions keep_two() {
  CheckpointOptions options = sample_options(kRun);
  options.keep = 2;
  return options;
}

// Steps 1 to 3 are there, so that the save of step 4 also removes one.
std::unique_ptr<MemoryFileSystem> three_checkpoints() {
  auto files = std::make_unique<MemoryFileSystem>();
  const auto world = make_self_communicator();
  make_directories(*files, kRun);
  files->sync_directory("");
  files->sync_directory("run");
  for (const int64_t step : {1, 2, 3}) save_sample(*files, *world, keep_two(), tiny_tensors(), step);
  return files;
}

void try_save(FileSystem& files, int64_t step) {
  const auto world = make_self_communicator();
  try {
    save_sample(files, *world, keep_two(), tiny_tensors(), step);
  } catch (const Error&) {
    // The dead see errors everywhere.
  }
}

int64_t calls_of_a_save() {
  const auto files = three_checkpoints();
  FaultyFileSystem counted(*files, {});
  try_save(counted, 4);
  return counted.changes();
}

class Sweep : public testing::TestWithParam<Death> {};

TEST_P(Sweep, EveryKillPointLeavesThePreviousOrTheNewStep) {
  const int64_t calls = calls_of_a_save();
  ASSERT_GT(calls, 20);
  int64_t old_step = 0, new_step = 0;
  for (int64_t at = 0; at < calls; ++at) {
    const auto files = three_checkpoints();
    FaultPlan plan;
    plan.stop_at = at;
    FaultyFileSystem dying(*files, plan);
    try_save(dying, 4);
    ASSERT_TRUE(dying.stopped());
    if (GetParam() == Death::power) files->lose_power();
    if (GetParam() == Death::power_partly) files->lose_power_partly(static_cast<uint64_t>(at));
    std::vector<std::string> notes;
    const int64_t step = load_sample(*files, kRun, kAuto, tiny_tensors(), &notes);
    ASSERT_TRUE(step == 3 || step == 4) << "killed at call " << at << ": step " << step;
    ASSERT_TRUE(notes.empty()) << notes[0];
    (step == 3 ? old_step : new_step) += 1;
    { const RunLock lock(*files, kRun); }
    ASSERT_TRUE(leftovers(*files, kRun).empty()) << at;
    // The run goes on: the same step can be saved again.
    const auto world = make_self_communicator();
    ASSERT_EQ(save_sample(*files, *world, keep_two(), tiny_tensors(), 4).committed_step, 4) << at;
    ASSERT_EQ(load_sample(*files, kRun, kAuto, tiny_tensors()), 4);
  }
  EXPECT_GT(old_step, 0);
  EXPECT_GT(new_step, 0);
}

INSTANTIATE_TEST_SUITE_P(Deaths, Sweep, testing::Values(Death::kill, Death::power, Death::power_partly));

TEST(Committed, SurvivesPowerLossOnceReported) {
  const auto files = three_checkpoints();
  const auto world = make_self_communicator();
  ASSERT_EQ(save_sample(*files, *world, keep_two(), tiny_tensors(), 4).committed_step, 4);
  files->lose_power();
  EXPECT_EQ(load_sample(*files, kRun, kAuto, tiny_tensors()), 4);
  EXPECT_EQ(files->content(std::string(kRun) + "/LATEST"), "step-00000004\n");
}

// The same with a real process and a real disk.
TEST(ChildProcess, ExitAtEveryCallLeavesThePreviousOrTheNewStep) {
  const auto files = make_posix_file_system();
  const auto world = make_self_communicator();
  for (int64_t at = 0;; ++at) {
    const ScratchDirectory scratch;
    const CheckpointOptions options = sample_options(scratch.path());
    save_sample(*files, *world, options, tiny_tensors(), 3);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      FaultPlan plan;
      plan.stop_at = at;
      plan.on_stop = [] { _exit(9); };
      FaultyFileSystem dying(*files, plan);
      try {
        save_sample(dying, *world, options, tiny_tensors(), 4);
      } catch (const Error&) {
        _exit(1);
      }
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    const int64_t step = load_sample(*files, scratch.path(), kAuto, tiny_tensors());
    if (WEXITSTATUS(status) == 0) {
      EXPECT_EQ(step, 4);
      EXPECT_GT(at, 20);
      break;
    }
    ASSERT_EQ(WEXITSTATUS(status), 9);
    ASSERT_TRUE(step == 3 || step == 4) << "at call " << at;
    { const RunLock lock(*files, scratch.path()); }
    ASSERT_TRUE(leftovers(*files, scratch.path()).empty());
  }
}

}  // namespace
}  // namespace farsight
