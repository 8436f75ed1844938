// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cerrno>
#include <thread>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/faults/checkpoint_sample.h"
#include "tests/faults/memory_file_system.h"
#include "trainer/run_lock.h"

namespace farsight {
namespace {

const std::string kRun = "run/checkpoints";

// A job on a fake machine; nothing sleeps, the file system's clock runs instead.
LockOptions job(MemoryFileSystem& files, const std::string& host, int64_t pid, bool others_alive) {
  LockOptions options;
  options.self = LockOwner{"token-" + host + std::to_string(pid), "", host, "boot-" + host, 0, pid, 1};
  options.alive = [others_alive](int64_t, int64_t) { return others_alive; };
  options.sleep = [&files](double seconds) { files.advance_clock(seconds); };
  return options;
}

int code_of(MemoryFileSystem& files, const LockOptions& options, std::string* message = nullptr) {
  try {
    const RunLock lock(files, kRun, options);
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return exit_code(error.kind());
  }
  return 0;
}

TEST(RunLock, SecondJobOnTheSameMachineIsRefusedAtOnce) {
  MemoryFileSystem files;
  const RunLock first(files, kRun, job(files, "a", 10, true));
  LockOptions second = job(files, "a", 11, true);
  second.sleep = [](double) { throw std::runtime_error("it waited"); };
  std::string message;
  EXPECT_EQ(code_of(files, second, &message), 69);
  EXPECT_NE(message.find("held by host a pid 10"), std::string::npos) << message;
  EXPECT_TRUE(first.owned());
}

TEST(RunLock, IsTakenOverWhenTheProcessIsGone) {
  MemoryFileSystem files;
  const RunLock first(files, kRun, job(files, "a", 10, true));
  const RunLock second(files, kRun, job(files, "a", 11, false));
  EXPECT_FALSE(first.owned());
  EXPECT_TRUE(second.owned());
  EXPECT_NE(second.note().find("its process is gone"), std::string::npos) << second.note();
}

TEST(RunLock, ADeadOwnersDestructorLeavesTheNewLockAlone) {
  MemoryFileSystem files;
  auto first = std::make_unique<RunLock>(files, kRun, job(files, "a", 10, true));
  const RunLock second(files, kRun, job(files, "a", 11, false));
  first.reset();
  EXPECT_TRUE(second.owned());
}

TEST(RunLock, AnotherMachineWaitsAndNamesTheOwner) {
  MemoryFileSystem files;
  LockOptions owner = job(files, "a", 10, true);
  owner.self.job = "4711";
  const RunLock first(files, kRun, owner);
  LockOptions second = job(files, "b", 10, false);  // its own process table says nothing about machine a
  second.wait_s = 60;
  std::string message;
  EXPECT_EQ(code_of(files, second, &message), 69);
  EXPECT_NE(message.find("held by job 4711 host a pid 10 (waited 60 s)"), std::string::npos) << message;
}

TEST(RunLock, AnUntouchedLockIsTakenOverByTheFileSystemsClock) {
  MemoryFileSystem files;
  const RunLock first(files, kRun, job(files, "a", 10, true));
  EXPECT_EQ(code_of(files, job(files, "b", 10, true)), 0);
  EXPECT_FALSE(first.owned());
}

TEST(RunLock, ATouchedLockIsNot) {
  MemoryFileSystem files;
  const RunLock first(files, kRun, job(files, "a", 10, true));
  LockOptions second = job(files, "b", 10, true);
  second.sleep = [&](double seconds) {
    files.advance_clock(seconds);
    first.touch();
  };
  EXPECT_EQ(code_of(files, second), 69);
  EXPECT_TRUE(first.owned());
}

TEST(RunLock, ARequeuedJobTakesOverFromItsEarlierStart) {
  MemoryFileSystem files;
  LockOptions before = job(files, "a", 10, true), after = job(files, "b", 20, true);
  before.self.job = after.self.job = "4711";
  after.self.restart = 1;
  after.sleep = [](double) { throw std::runtime_error("it waited"); };
  const RunLock first(files, kRun, before);
  EXPECT_EQ(code_of(files, after), 0);
  EXPECT_FALSE(first.owned());
}

TEST(RunLock, HalfAWrittenLockAgesToo) {
  MemoryFileSystem files;
  make_directories(files, kRun);
  OutputFile(files, kRun + "/run.lock").write("{\"token\":\"ab");
  LockOptions hasty = job(files, "a", 10, true);
  hasty.wait_s = 10;
  EXPECT_EQ(code_of(files, hasty), 69);
  EXPECT_EQ(code_of(files, job(files, "a", 10, true)), 0);
}

TEST(RunLock, OfManyCandidatesForAStaleLockOneWins) {
  for (int round = 0; round < 20; ++round) {
    MemoryFileSystem files;
    auto dead = std::make_unique<RunLock>(files, kRun, job(files, "a", 1, true));
    std::atomic<int> owners{0}, refused{0};
    std::vector<std::thread> jobs;
    for (int64_t pid = 2; pid < 6; ++pid) {
      jobs.emplace_back([&, pid] {
        LockOptions options = job(files, "a", pid, true);
        options.alive = [](int64_t other, int64_t) { return other != 1; };
        options.wait_s = 0;
        try {
          const RunLock lock(files, kRun, options);
          ++owners;
          while (refused < 3) std::this_thread::yield();
          if (!lock.owned()) ++owners;
        } catch (const Error&) {
          ++refused;
        }
      });
    }
    for (std::thread& thread : jobs) thread.join();
    EXPECT_EQ(owners, 1);
    EXPECT_EQ(refused, 3);
  }
}

TEST(RunLock, StartRemovesWhatADeadOwnerLeftAndNothingElse) {
  MemoryFileSystem files;
  for (const char* name : {".tmp-step-00000009-x", ".trash-step-00000001", ".bad-step-00000002-y", "step-00000003"}) {
    make_directories(files, kRun + "/" + name);
    OutputFile(files, kRun + "/" + name + "/file").close();
  }
  const RunLock lock(files, kRun, job(files, "a", 10, true));
  EXPECT_EQ(list_sorted(files, kRun), (std::vector<std::string>{".bad-step-00000002-y", "run.lock", "step-00000003"}));
}

TEST(RunLock, TheRealProcessIsKnownToBeAlive) {
  const ScratchDirectory scratch;
  const auto files = make_posix_file_system();
  const RunLock first(*files, scratch.path());
  EXPECT_GT(current_process().pidstart, 0);
  EXPECT_THROW(RunLock(*files, scratch.path()), Error);
  first.touch();
  EXPECT_TRUE(first.owned());
}

TEST(ExitRecord, IsOneAtomicFileWithTheCodeOnALineOfItsOwn) {
  MemoryFileSystem files;
  make_directories(files, "run");
  write_exit_record(files, "run", {85, "stopped", 1200, "on \"request\""});
  write_exit_record(files, "run", {0, "finished", 2000, ""});
  EXPECT_NE(files.content("run/exit.json").find("\"code\": 0,\n"), std::string::npos) << files.content("run/exit.json");
  EXPECT_EQ(list_sorted(files, "run"), std::vector<std::string>{"exit.json"});
}

}  // namespace
}  // namespace farsight
