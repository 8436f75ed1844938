// SPDX-License-Identifier: Apache-2.0
// The watchdog with limits of milliseconds; the real end of a process is seen in a death test.
#include "parallel/watchdog.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "parallel/comm.h"
#include "parallel/inproc_comm.h"

namespace farsight {
namespace {

using namespace std::chrono_literals;

class WatchdogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // A death test runs this program again and ends without TearDown: the child uses, and the parent removes, one
    // folder.
    setenv("FARSIGHT_WATCHDOG_TEST", std::to_string(getpid()).c_str(), /*overwrite=*/0);
    directory_ = std::filesystem::temp_directory_path() /
                 (std::string("farsight-watchdog-") + std::getenv("FARSIGHT_WATCHDOG_TEST") + "-" +
                  ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // Ends by fulfilling `ended` with the code and the text.
  WatchdogOptions options(int rank, int world, std::chrono::milliseconds limit) {
    WatchdogOptions o;
    o.directory = directory_;
    o.rank = rank;
    o.world = world;
    o.host = "node" + std::to_string(rank);
    o.limit = limit;
    o.report_wait = 300ms;
    return o;
  }
  std::string file(int rank) const {
    std::ifstream in(directory_ / ("rank-" + std::to_string(rank) + ".json"));
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  std::filesystem::path directory_;
};

TEST_F(WatchdogTest, NamesTheOperationThatEveryRankWaitsForAndTheSilentRank) {
  std::promise<int> code;
  std::string summary;
  FlightLog log;
  FlightEntry done;
  done.operation = "all_reduce";
  done.axis = "dp*ring";
  log.finish(log.begin(done));
  FlightEntry pending;
  pending.operation = "receive";
  pending.axis = "ring";
  pending.peer = 5;
  pending.count = 2097152;
  pending.type = "byte";
  pending.site = std::source_location::current();
  log.begin(pending);
  auto o = options(0, 3, 100ms);
  o.end = [&code](int c) { code.set_value(c); };
  o.print = [&summary](const std::string& text) { summary += text; };
  auto other = options(1, 3, 100ms);  // rank 2 never reports
  std::promise<int> other_code;
  std::string other_summary;
  other.end = [&other_code](int c) { other_code.set_value(c); };
  other.print = [&other_summary](const std::string& text) { other_summary += text; };
  FlightLog other_log;
  Watchdog lowest(o, log);
  Watchdog second(other, other_log);
  lowest.enter(Section::step, 1234);
  second.enter(Section::step, 1234);
  lowest.set_last_checkpoint(1200);
  EXPECT_EQ(code.get_future().get(), 124);
  EXPECT_EQ(other_code.get_future().get(), 124);
  for (const char* part : {"no progress for 0.1 s in 'step' 1234", "last committed checkpoint: step 1200",
                           "rank 0 (node0) waits: receive #2", "axis ring",
                           "peer 5, 2097152 x byte, tests/parallel/watchdog_test.cc:", "last done: all_reduce #1",
                           "rank 1 (node1) computes", "no report from: rank 2 <- suspect"}) {
    EXPECT_NE(summary.find(part), std::string::npos) << part << " is missing in:\n" << summary;
  }
  EXPECT_EQ(other_summary, "");  // one rank prints
  const std::string json = file(0);
  for (const char* part : {"\"rank\": 0", "\"section\": \"step\"", "\"step\": 1234", "\"operation\": \"receive\"",
                           "\"finished\": false", "\"finished\": true"}) {
    EXPECT_NE(json.find(part), std::string::npos) << part << " is missing in:\n" << json;
  }
}

TEST_F(WatchdogTest, StaysQuietWhileThereIsProgress) {
  std::atomic<bool> expired{false};
  auto o = options(0, 1, 200ms);
  o.end = [&expired](int) { expired = true; };
  o.print = [](const std::string&) {};
  FlightLog log;
  Watchdog watchdog(o, log);
  watchdog.enter(Section::step, 1);
  for (int i = 0; i < 30; ++i) {
    std::this_thread::sleep_for(20ms);
    watchdog.progress();
  }
  EXPECT_FALSE(expired);
  EXPECT_FALSE(std::filesystem::exists(directory_));
}

TEST_F(WatchdogTest, SlowSectionsAndSlowStepsHaveLongerLimits) {
  std::atomic<bool> expired{false};
  const auto quiet = [&expired](WatchdogOptions o) {
    o.end = [&expired](int) { expired = true; };
    o.print = [](const std::string&) {};
    return o;
  };
  FlightLog log;
  {
    Watchdog watchdog(quiet(options(0, 1, 100ms)), log);  // init: 6 x 100 ms
    std::this_thread::sleep_for(300ms);
    EXPECT_FALSE(expired);
  }
  Watchdog watchdog(quiet(options(0, 1, 100ms)), log);
  for (int i = 0; i < 5; ++i) watchdog.step_took(100ms);
  watchdog.enter(Section::step, 9);  // 10 x the median = 1 s
  std::this_thread::sleep_for(400ms);
  EXPECT_FALSE(expired);
}

TEST_F(WatchdogTest, ALimitOfZeroSwitchesItOff) {
  FlightLog log;
  auto o = options(0, 1, 0ms);
  o.end = [](int) { ADD_FAILURE() << "expired"; };
  Watchdog watchdog(o, log);
  std::this_thread::sleep_for(50ms);
}

// A rank that computes for ever keeps the others in a collective: the process leaves with 124 and names both.
TEST_F(WatchdogTest, EndsAProcessThatHangs) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto hang = [this] {
    run_in_process(2, [this](Communicator& world) {
      Watchdog watchdog(options(world.rank(), 2, 150ms), world.flight_log());
      watchdog.enter(Section::step, 77);
      if (world.rank() == 1) std::this_thread::sleep_for(1h);
      world.barrier();
    });
  };
  EXPECT_EXIT(hang(), ::testing::ExitedWithCode(124), "rank 0 .node0. waits: barrier #1 axis world #1");
}

}  // namespace
}  // namespace farsight
