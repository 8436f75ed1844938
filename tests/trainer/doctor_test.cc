// SPDX-License-Identifier: Apache-2.0
#include "trainer/doctor.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace farsight {
namespace {

RankReport healthy(int64_t rank = 0) {
  RankReport report;
  report.rank = rank;
  report.cores_allowed = report.cores_online = 8;
  report.threads = 4;
  report.fma_flops = 100e9;
  report.gemm_flops = 90e9;
  report.local_size = 1;
  report.host = fmt::format("n{}", rank);
  return report;
}

std::vector<DoctorCheck> warnings(const std::vector<RankReport>& ranks) {
  std::vector<DoctorCheck> checks = judge_ranks(ranks);
  checks.erase(std::remove_if(checks.begin(), checks.end(),
                              [](const DoctorCheck& check) { return check.state == CheckState::ok; }),
               checks.end());
  return checks;
}

TEST(Doctor, HealthyRanksGiveNoWarning) { EXPECT_TRUE(warnings({healthy(0), healthy(1)}).empty()); }

TEST(Doctor, RankBoundToOneCoreIsWarnedWithTheCure) {
  RankReport rank = healthy();
  rank.cores_allowed = rank.threads = 1;
  const auto found = warnings({rank});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_NE(found[0].cure.find("--bind-to none"), std::string::npos);
}

TEST(Doctor, SlowMatrixLibraryIsNamed) {
  RankReport rank = healthy();
  rank.gemm_flops = 59e9;
  const auto found = warnings({rank});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_NE(found[0].found.find("59 %"), std::string::npos);
  EXPECT_NE(found[0].cure.find("oneDNN"), std::string::npos);
  rank.gemm_flops = 61e9;
  EXPECT_TRUE(warnings({rank}).empty());
}

TEST(Doctor, MoreThreadsThanCoresOfANodeIsWarned) {
  std::vector<RankReport> ranks{healthy(0), healthy(1), healthy(2)};
  for (RankReport& rank : ranks) {
    rank.host = "same";
    rank.local_size = 3;
  }
  const auto found = warnings(ranks);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].found, "3 ranks run 12 threads on 8 cores");
  EXPECT_EQ(found[0].cure, "set OMP_NUM_THREADS=2");
}

TEST(Doctor, OneNodeWithoutSharedMemoryIsWarned) {
  std::vector<RankReport> ranks{healthy(0), healthy(1)};
  const std::string messages = "messages: /dev/shm is full";
  EXPECT_EQ(judge_sharing(messages, ranks).state, CheckState::ok) << "two nodes";
  ranks[1].host = ranks[0].host;
  const DoctorCheck check = judge_sharing(messages, ranks);
  EXPECT_EQ(check.state, CheckState::warning);
  EXPECT_NE(check.found.find("/dev/shm is full"), std::string::npos);
  EXPECT_NE(check.cure.find("/dev/shm"), std::string::npos);
  EXPECT_EQ(judge_sharing("shared memory, 256 KiB per rank", ranks).state, CheckState::ok);
}

TEST(Doctor, TheWayOfDeviceTensorsIsSaid) {
  std::vector<RankDevice> devices{{"x", "0000:1b:00.0"}, {"x", "0000:43:00.0"}};
  EXPECT_EQ(judge_devices(devices).found, "communicator: NCCL, 2 ranks on 2 devices");
  devices[1].bus_id = devices[0].bus_id;
  EXPECT_NE(judge_devices(devices).found.find("ranks 0 and 1 share device 0000:1b:00.0"), std::string::npos);
  devices[1].bus_id = "";
  EXPECT_EQ(judge_devices(devices).found, "rank 1 has no device that could be used");
}

TEST(Doctor, DiskCheckWritesCleansUpAndRefuses) {
  const auto folder = std::filesystem::temp_directory_path() / "farsight-doctor-test";
  std::filesystem::create_directories(folder);
  EXPECT_EQ(check_disk(folder.string()).state, CheckState::ok);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove(folder);
  EXPECT_EQ(check_disk((folder / "missing").string()).state, CheckState::failed);
}

TEST(Doctor, VectorsAgree) { EXPECT_EQ(check_vectors().state, CheckState::ok); }

TEST(Doctor, ReportsNameEveryRankAndFinding) {
  const std::vector<RankReport> ranks{healthy(0), healthy(1)};
  const auto checks = judge_ranks(ranks);
  const std::string text = doctor_text(ranks, checks), json = doctor_json(ranks, checks);
  EXPECT_NE(text.find("rank 1 on n1"), std::string::npos);
  EXPECT_NE(json.find("\"host\": \"n1\""), std::string::npos);
  EXPECT_NE(json.find("\"state\": \"ok\""), std::string::npos);
}

}  // namespace
}  // namespace farsight
