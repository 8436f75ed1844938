// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/comm.h"
#include "tests/faults/checkpoint_sample.h"
#include "trainer/commands/checkpoint.h"

namespace farsight {
namespace {

class CheckpointCommand : public testing::Test {
 protected:
  void SetUp() override {
    const auto files = make_posix_file_system();
    const auto world = make_self_communicator();
    for (const int64_t step : {10, 20}) {
      save_sample(*files, *world, sample_options(scratch_.path() + "/checkpoints"), tiny_tensors(), step);
    }
  }
  int run(std::vector<std::string> args) { return run_checkpoint_command(std::move(args), out_, err_); }
  std::string newest() { return scratch_.path() + "/checkpoints/step-00000020"; }
  void damage() {
    std::fstream file(newest() + "/shard-00000-of-00001.fss", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096 + 3);
    file.put('\0');
  }

  ScratchDirectory scratch_;
  std::ostringstream out_, err_;
};

TEST_F(CheckpointCommand, ListsNewestFirst) {
  EXPECT_EQ(run({"list", scratch_.path()}), 0);
  EXPECT_EQ(out_.str().find("step-00000020  81920 tokens  1 shards"), 0U) << out_.str();
  EXPECT_NE(out_.str().find("\nstep-00000010  "), std::string::npos) << out_.str();
}

TEST_F(CheckpointCommand, InspectShowsStateAndTensors) {
  EXPECT_EQ(run({"inspect", newest()}), 0);
  for (const char* line : {"\nstep 20\n", "\nsamples_consumed 160\n", "\ntensor a f32 [7, 3] in 1 slice\n",
                           "\ndataset corpus.h5 (123456 bytes, 1000 rows, checksum deadbeef)\n"}) {
    EXPECT_NE(out_.str().find(line), std::string::npos) << line << out_.str();
  }
}

TEST_F(CheckpointCommand, VerifyFindsDamageAtTheLevelThatLooksForIt) {
  EXPECT_EQ(run({"verify", scratch_.path(), "--level=full"}), 0) << err_.str();
  damage();
  EXPECT_EQ(run({"verify", newest(), "--level=header"}), 0);
  EXPECT_EQ(run({"verify", newest(), "--level=chunks"}), 65);
  EXPECT_NE(err_.str().find("damaged: shard 0 'a' chunk 0: CRC32C "), std::string::npos) << err_.str();
  EXPECT_EQ(run({"verify", newest()}), 65);
  EXPECT_EQ(run({"verify", scratch_.path() + "/checkpoints/step-00000010", "--level=full"}), 0);
}

TEST_F(CheckpointCommand, HelpAndUsageErrors) {
  EXPECT_EQ(run({"--help"}), 0);
  EXPECT_NE(out_.str().find("--level"), std::string::npos);
  const auto kind = [&](std::vector<std::string> args) {
    try {
      run(std::move(args));
    } catch (const Error& error) {
      return exit_code(error.kind());
    }
    return 0;
  };
  EXPECT_EQ(kind({}), 64);
  EXPECT_EQ(kind({"list"}), 64);
  EXPECT_EQ(kind({"burn", scratch_.path()}), 64);
  EXPECT_EQ(kind({"list", scratch_.path(), "--levle=full"}), 64);
  EXPECT_EQ(kind({"verify", scratch_.path(), "--level=deep"}), 64);
  EXPECT_EQ(kind({"list", scratch_.path() + "/nowhere"}), 65);
}

}  // namespace
}  // namespace farsight
