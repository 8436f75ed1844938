// SPDX-License-Identifier: Apache-2.0
// Full disks, failing disks, short writes: the save is dropped on all ranks, the old checkpoint stays, the third
// failure in a row ends the run with 74.
#include <cerrno>
#include <functional>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/faults/checkpoint_sample.h"
#include "tests/faults/faulty_file_system.h"
#include "tests/faults/memory_file_system.h"
#include "trainer/checkpoint/load.h"

namespace farsight {
namespace {

const ResumeRequest kAuto{ResumeRequest::Mode::automatic, {}};
constexpr const char* kRun = "run/checkpoints";

struct Fault {
  const char* name;
  FaultPlan plan;
};

FaultPlan plan_of(const std::function<void(FaultPlan&)>& set) {
  FaultPlan plan;
  plan.only_path = "shard-00001";
  set(plan);
  return plan;
}

std::vector<Fault> faults() {
  const auto errno_after = [](int code, int64_t bytes) {
    return plan_of([=](FaultPlan& p) { p.write_errno = code, p.fail_after_bytes = bytes; });
  };
  return {{"NoSpace", errno_after(ENOSPC, 0)},
          {"NoSpaceInTheMiddle", errno_after(ENOSPC, 4'100)},
          {"WriteError", errno_after(EIO, 100)},
          {"SyncError", plan_of([](FaultPlan& p) { p.sync_errno = EIO; })},
          {"CloseError", plan_of([](FaultPlan& p) { p.close_errno = EIO; })},
          {"ManifestSyncError", plan_of([](FaultPlan& p) { p.sync_errno = EIO, p.only_path = "MANIFEST"; })},
          {"RenameError", plan_of([](FaultPlan& p) { p.rename_errno = EIO, p.only_path = ".tmp-step"; })}};
}

class Storage : public testing::TestWithParam<Fault> {};

TEST_P(Storage, OneFailingRankDropsTheSaveOnAllAndTheThirdEndsTheRun) {
  MemoryFileSystem memory;
  save_on_ranks(memory, 3, sample_options(kRun), tiny_tensors(), 10);
  FaultyFileSystem files(memory, GetParam().plan);
  run_in_process(3, [&](Communicator& world) {
    CheckpointWriter writer(sample_options(kRun), files, world, nullptr);
    for (const int64_t step : {11, 12, 13}) {
      const SampleState sample(tiny_tensors(), step);
      const auto save = [&] {
        return writer.step({/*save=*/true, /*wait=*/true, {}}, [&] { return sample.snapshot(world); });
      };
      if (step < 13) {
        const StepReport report = save();
        if (report.committed_step != -1 || report.failures.size() != 1) throw std::runtime_error("not dropped");
        if (report.failures[0].find("checkpoint step") != 0) throw std::runtime_error(report.failures[0]);
        continue;
      }
      try {
        save();
        throw std::runtime_error("the third failure went unnoticed");
      } catch (const Error& error) {
        if (exit_code(error.kind()) != 74) throw;
      }
      if (writer.metrics().failed != 3) throw std::runtime_error("failures miscounted");
    }
  });
  EXPECT_TRUE(leftovers(memory, kRun).empty());
  EXPECT_EQ(load_sample(memory, kRun, kAuto, tiny_tensors()), 10);
  EXPECT_EQ(memory.content(std::string(kRun) + "/LATEST"), "step-00000010\n");
}

INSTANTIATE_TEST_SUITE_P(Faults, Storage, testing::ValuesIn(faults()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Storage, ASuccessInBetweenStartsTheCountAgain) {
  MemoryFileSystem memory;
  const auto world = make_self_communicator();
  CheckpointWriter writer(sample_options(kRun), memory, *world, nullptr);
  const auto save = [&](int64_t step, int64_t free_bytes) {
    memory.set_free_bytes(free_bytes);
    const SampleState sample(tiny_tensors(), step);
    return writer.step({true, true, {}}, [&] { return sample.snapshot(*world); });
  };
  constexpr int64_t kPlenty = 1 << 30;
  EXPECT_EQ(save(1, 100).failures.size(), 1U);
  EXPECT_EQ(save(2, 100).failures.size(), 1U);
  EXPECT_EQ(save(3, kPlenty).committed_step, 3);
  EXPECT_EQ(save(4, 100).failures.size(), 1U);
  const StepReport last = save(5, 100);
  ASSERT_EQ(last.failures.size(), 1U);
  EXPECT_NE(last.failures[0].find("no space for a shard"), std::string::npos) << last.failures[0];
  EXPECT_EQ(writer.metrics().failed, 4);
}

TEST(Storage, ShortAndInterruptedCallsAreNoFault) {
  MemoryFileSystem memory;
  FaultPlan plan;
  plan.longest_write = 1000;
  plan.interrupt = true;
  FaultyFileSystem files(memory, plan);
  save_on_ranks(files, 2, sample_options(kRun), sample_tensors(), 10);
  EXPECT_EQ(load_sample(files, kRun, kAuto, sample_tensors()), 10);
}

}  // namespace
}  // namespace farsight
