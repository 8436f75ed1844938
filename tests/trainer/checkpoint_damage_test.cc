// SPDX-License-Identifier: Apache-2.0
// Damaged checkpoints are rejected by name and the one before is loaded; an explicit path never falls back.
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "kernels/random.h"
#include "parallel/inproc_comm.h"
#include "tests/faults/checkpoint_sample.h"
#include "tests/faults/memory_file_system.h"
#include "tests/sanitized.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/load.h"

namespace farsight {
namespace {

const ResumeRequest kAuto{ResumeRequest::Mode::automatic, {}};
const std::string kRun = "run/checkpoints";
const std::string kNew = kRun + "/step-00000020";
const std::string kOld = kRun + "/step-00000010";
const ResumeRequest kNewPath{ResumeRequest::Mode::path, kNew};

class Damage : public testing::Test {
 protected:
  void SetUp() override {
    for (const int64_t step : {10, 20}) save_on_ranks(files_, 2, sample_options(kRun), tiny_tensors(), step);
  }
  // The newest checkpoint is rejected, named, and the older one is loaded.
  void expect_fallback(const std::string& what, const std::string& expected = "") {
    std::vector<std::string> notes;
    ASSERT_EQ(load_sample(files_, kRun, kAuto, tiny_tensors(), &notes), 10) << what;
    ASSERT_EQ(notes.size(), 1U) << what;
    EXPECT_EQ(notes[0].find("checkpoint step 20 rejected: "), 0U) << notes[0];
    EXPECT_NE(notes[0].find("; trying step 10"), std::string::npos) << notes[0];
    EXPECT_NE(notes[0].find(expected), std::string::npos) << what << ": " << notes[0];
  }
  void expect_explicit_path_fails() {
    int code = 0;
    EXPECT_NE(load_error(files_, kRun, kNewPath, tiny_tensors(), &code), "");
    EXPECT_EQ(code, 65);
  }
  std::string shard(const std::string& checkpoint, int number) {
    return checkpoint + "/shard-0000" + std::to_string(number) + "-of-00002.fss";
  }

  MemoryFileSystem files_;
};

TEST_F(Damage, EveryFlippedByteOfEveryFileIsNoticed) {
  for (const std::string& path : {kNew + "/MANIFEST", shard(kNew, 0), shard(kNew, 1)}) {
    std::string& content = files_.content(path);
    for (size_t i = 0; i < content.size(); ++i) {
      // The zeros after the header are many and alike: a sample of them does.
      if (i > 1024 && i < 4096 && i % 61 != 0 && path.back() == 's') continue;
      if (kSanitized && i % 7 != 0) continue;
      const char before = content[i];
      content[i] = static_cast<char>(before ^ (1 << (i % 8)));
      expect_fallback(path + " byte " + std::to_string(i));
      content[i] = before;
    }
  }
  EXPECT_EQ(load_sample(files_, kRun, kAuto, tiny_tensors()), 20);
}

TEST_F(Damage, DataDamageNamesShardTensorAndChunk) {
  std::string& content = files_.content(shard(kNew, 0));
  content[4096 + 5] = static_cast<char>(content[4096 + 5] ^ 1);
  expect_fallback("data", "shard 0 'a' chunk 0: CRC32C ");
  expect_explicit_path_fails();
}

TEST_F(Damage, CutFilesAreNoticed) {
  for (const std::string& path : {kNew + "/MANIFEST", shard(kNew, 1)}) {
    const std::string whole = files_.content(path);
    for (size_t length = 0; length < whole.size(); length += length < 64 ? 1 : 97) {
      files_.content(path) = whole.substr(0, length);
      expect_fallback(path + " cut to " + std::to_string(length));
    }
    files_.content(path) = whole;
  }
}

TEST_F(Damage, TrailingBytesAreNoticed) {
  files_.content(shard(kNew, 0)) += '\0';
  expect_fallback("trailing byte", "shard 0");
}

TEST_F(Damage, ShardsOfAnotherSaveAreNoticed) {
  const std::string mine = files_.content(shard(kNew, 1));
  files_.content(shard(kNew, 1)) = files_.content(shard(kOld, 1));
  expect_fallback("shard of step 10", "shard 1");
  expect_explicit_path_fails();
  files_.content(shard(kNew, 1)) = mine;
  std::swap(files_.content(shard(kNew, 0)), files_.content(shard(kNew, 1)));
  expect_fallback("swapped shards", "shard 0");
}

TEST_F(Damage, MissingFilesAreNoticed) {
  files_.remove_file(shard(kNew, 1));
  expect_fallback("shard", "shard 1: shard-00001-of-00002.fss is missing");
  expect_explicit_path_fails();
  files_.remove_file(kNew + "/MANIFEST");
  expect_fallback("manifest", "no MANIFEST");
  expect_explicit_path_fails();
}

TEST_F(Damage, ARenamedDirectoryIsNoticed) {
  files_.rename(kNew, kRun + "/step-00000030");
  std::vector<std::string> notes;
  EXPECT_EQ(load_sample(files_, kRun, kAuto, tiny_tensors(), &notes), 10);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_NE(notes[0].find("belongs to step 20"), std::string::npos) << notes[0];
}

TEST_F(Damage, NoGoodCheckpointLeftIsAnErrorAndNeverAFreshStart) {
  files_.content(kNew + "/MANIFEST")[3] ^= 1;
  files_.content(kOld + "/MANIFEST")[3] ^= 1;
  int code = 0;
  const std::string message = load_error(files_, kRun, kAuto, tiny_tensors(), &code);
  EXPECT_EQ(code, 65);
  EXPECT_NE(message.find("checkpoint step 10 rejected: "), std::string::npos) << message;
  EXPECT_NE(message.find("no good checkpoint left"), std::string::npos) << message;
}

TEST_F(Damage, OneRankThatReadsDamageRejectsForAll) {
  std::string& content = files_.content(shard(kNew, 1));
  content[4096] = static_cast<char>(content[4096] ^ 1);
  run_in_process(3, [&](Communicator& world) {
    // Only rank 2 wants what is damaged.
    std::vector<SampleTensor> wanted = tiny_tensors();
    if (world.rank() != 2) wanted = {{"c", DType::f64, {}}};
    if (world.rank() == 1) wanted = {};
    SampleTargets targets(tiny_tensors());
    std::vector<TensorTarget> all = targets.targets(), mine;
    const Manifest manifest = read_manifest(files_, kNew);
    for (const TensorTarget& target : all) {
      const auto& pieces = manifest.index.at(target.name).pieces;
      const bool damaged = pieces.back().file == 1;
      if (damaged == (world.rank() == 2)) mine.push_back(target);
    }
    const LoadedCheckpoint loaded = load_checkpoint(kAuto, kRun, files_, world, [&](const Manifest&) { return mine; });
    if (loaded.manifest->state.step != 10) throw std::runtime_error("ranks loaded damaged data");
    if (loaded.notes.size() != 1 || loaded.notes[0].find("rank 2: shard 1") == std::string::npos) {
      throw std::runtime_error("notes: " + (loaded.notes.empty() ? "none" : loaded.notes[0]));
    }
  });
}

TEST_F(Damage, ErrorsOfTheCallerReachEveryRankAndEndTheLoad) {
  run_in_process(2, [&](Communicator& world) {
    try {
      load_checkpoint(kAuto, kRun, files_, world, [&](const Manifest&) -> std::vector<TensorTarget> {
        if (world.rank() == 1) fail(ErrorKind::config, "model.layers differs");
        return {};
      });
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::config) throw;
      return;
    }
    throw std::runtime_error("loaded");
  });
}

TEST_F(Damage, NeverRefusesARunThatHasCheckpoints) {
  int code = 0;
  EXPECT_NE(load_error(files_, kRun, {}, tiny_tensors(), &code), "");
  EXPECT_EQ(code, 78);
  EXPECT_EQ(load_sample(files_, "run/elsewhere", {}, tiny_tensors()), -1);
  std::vector<std::string> notes;
  EXPECT_EQ(load_sample(files_, "run/elsewhere", kAuto, tiny_tensors(), &notes), -1);
  EXPECT_EQ(notes, std::vector<std::string>{"no checkpoint in run/elsewhere: starting from step 0"});
}

TEST_F(Damage, AnExplicitPathSetsNewerCheckpointsAside) {
  EXPECT_EQ(load_sample(files_, kRun, {ResumeRequest::Mode::path, kOld + "/"}, tiny_tensors()), 10);
  EXPECT_TRUE(exists(files_, kRun + "/.rewound-step-00000020"));
  EXPECT_EQ(files_.content(kRun + "/LATEST"), "step-00000010\n");
  EXPECT_EQ(load_sample(files_, kRun, kAuto, tiny_tensors()), 10);
}

TEST_F(Damage, AnotherFormatVersionNamesBoth) {
  files_.content(shard(kNew, 0))[7] = 2;
  expect_fallback("version", "shard format 2; this program reads format 1");
}

}  // namespace
}  // namespace farsight
