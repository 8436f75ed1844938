// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "kernels/random.h"
#include "parallel/inproc_comm.h"
#include "tests/faults/checkpoint_sample.h"
#include "tests/faults/memory_file_system.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/crc32c.h"
#include "trainer/checkpoint/load.h"

namespace farsight {
namespace {

const ResumeRequest kAuto{ResumeRequest::Mode::automatic, {}};
constexpr const char* kRun = "run/checkpoints";

TEST(Checksum, AgreesWithThePublishedVector) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c("56789", crc32c("1234")), 0xE3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

TEST(WriterShare, CoversEverythingOnceAndBalancesWithinOneRow) {
  const SampleState sample(sample_tensors(), 1);
  const std::vector<TensorSlice> all = sample.slices();
  const int64_t total = std::accumulate(all.begin(), all.end(), int64_t{0},
                                        [](int64_t sum, const TensorSlice& s) { return sum + byte_count(s); });
  for (const int writers : {1, 2, 3, 4, 7, 64}) {
    int64_t seen = 0;
    for (int w = 0; w < writers; ++w) {
      int64_t mine = 0;
      for (const TensorSlice& slice : writer_share(all, w, writers)) mine += byte_count(slice);
      EXPECT_NEAR(static_cast<double>(mine), static_cast<double>(total) / writers, 2 * 48 * 8) << w << "/" << writers;
      seen += mine;
    }
    EXPECT_EQ(seen, total);
  }
}

class Layouts : public testing::TestWithParam<std::pair<int, int>> {};

TEST_P(Layouts, EveryRankOfTheLoadingLayoutGetsTheSavedBytes) {
  const auto [writers, readers] = GetParam();
  MemoryFileSystem files;
  save_on_ranks(files, writers, sample_options(kRun), sample_tensors(), 12);
  run_in_process(readers, [&](Communicator& world) {
    SampleTargets targets(sample_tensors());
    const LoadedCheckpoint loaded =
        load_checkpoint(kAuto, kRun, files, world, [&](const Manifest&) { return targets.targets(); });
    if (!loaded.manifest || loaded.manifest->state.step != 12 || !loaded.notes.empty()) {
      throw std::runtime_error("not loaded cleanly");
    }
    if (const std::string wrong = targets.mismatch(12); !wrong.empty()) throw std::runtime_error(wrong);
  });
  EXPECT_TRUE(leftovers(files, kRun).empty());
  EXPECT_EQ(files.content(std::string(kRun) + "/LATEST"), "step-00000012\n");
}

INSTANTIATE_TEST_SUITE_P(SaveAndLoad, Layouts,
                         testing::Values(std::pair{1, 1}, std::pair{1, 4}, std::pair{2, 1}, std::pair{3, 2},
                                         std::pair{4, 4}, std::pair{7, 3}));

// Independent check of the scatter: any box of a tensor, element by element.
TEST(Reshard, AnyBoxOfATensorIsLoadedExactly) {
  MemoryFileSystem files;
  const std::vector<SampleTensor> tensors{{"t", DType::f32, {13, 9, 11}}, {"wide", DType::u8, {3, 90'000}}};
  save_on_ranks(files, 3, sample_options(kRun), tensors, 5);
  const std::string checkpoint = std::string(kRun) + "/step-00000005";
  const Manifest manifest = verify_checkpoint(files, checkpoint, VerifyLevel::full);
  for (uint64_t draw = 0; draw < 60; ++draw) {
    const SampleTensor& tensor = tensors[draw % 2];
    TensorTarget target{{tensor.name, tensor.dtype, tensor.shape, {}, {}}, nullptr};
    uint64_t site = 0;
    for (const int64_t extent : tensor.shape) {
      const auto offset = static_cast<int64_t>(uniform_variate(draw, 2 * site) * static_cast<double>(extent));
      const auto room = static_cast<double>(extent - offset + 1);
      target.offset.push_back(offset);
      target.shape.push_back(static_cast<int64_t>(uniform_variate(draw, 2 * site + 1) * room));
      ++site;
    }
    const int64_t size = size_of(tensor.dtype);
    std::vector<std::byte> out(static_cast<size_t>(byte_count(target)));
    target.data = out.data();
    load_tensors(files, checkpoint, manifest, {target});
    for (int64_t i = 0; i < element_count(target.shape); ++i) {
      int64_t rest = i, flat = 0, stride = 1;
      for (size_t d = tensor.shape.size(); d-- > 0;) {
        flat += (target.offset[d] + rest % target.shape[d]) * stride;
        rest /= target.shape[d];
        stride *= tensor.shape[d];
      }
      for (int64_t b = 0; b < size; ++b) {
        ASSERT_EQ(out[static_cast<size_t>(i * size + b)], sample_byte(tensor.name, 5, flat * size + b)) << draw;
      }
    }
  }
}

TEST(Shards, SameStateAndLayoutGiveTheSameBytes) {
  MemoryFileSystem first, second;
  for (MemoryFileSystem* files : {&first, &second}) {
    save_on_ranks(*files, 2, sample_options(kRun), sample_tensors(), 3);
  }
  for (const char* shard : {"/step-00000003/shard-00000-of-00002.fss", "/step-00000003/shard-00001-of-00002.fss"}) {
    EXPECT_EQ(first.content(kRun + std::string(shard)), second.content(kRun + std::string(shard)));
  }
}

TEST(Manifests, CarryTheWholeState) {
  MemoryFileSystem files;
  save_on_ranks(files, 1, sample_options(kRun), tiny_tensors(), 9);
  const CheckpointState got = read_manifest(files, std::string(kRun) + "/step-00000009").state;
  const CheckpointState want = SampleState(tiny_tensors(), 9).state();
  EXPECT_EQ(got.tokens, want.tokens);
  EXPECT_EQ(got.epoch, want.epoch);
  EXPECT_EQ(got.samples_consumed, want.samples_consumed);
  EXPECT_EQ(got.seed, want.seed);
  EXPECT_EQ(got.shuffle_seed, want.shuffle_seed);
  EXPECT_EQ(got.config_text, want.config_text);
  EXPECT_EQ(got.config_hash, want.config_hash);
  EXPECT_EQ(got.code_version, want.code_version);
  EXPECT_EQ(got.tokenizer_fingerprint, want.tokenizer_fingerprint);
  ASSERT_EQ(got.datasets.size(), 1U);
  EXPECT_EQ(got.datasets[0].path, want.datasets[0].path);
  EXPECT_EQ(got.datasets[0].modified_ns, want.datasets[0].modified_ns);
  EXPECT_EQ(got.datasets[0].checksum, want.datasets[0].checksum);
  EXPECT_EQ(got.learning_rate, want.learning_rate);
  EXPECT_EQ(got.loss_statistics, want.loss_statistics);
  EXPECT_EQ(got.recent_losses, want.recent_losses);
  EXPECT_EQ(got.skipped_windows, want.skipped_windows);
  EXPECT_EQ(got.wall_times, want.wall_times);
  EXPECT_EQ(got.world, want.world);
  EXPECT_EQ(got.mesh, want.mesh);
}

TEST(Loading, ErrorsNameTensorSliceAndGap) {
  MemoryFileSystem files;
  save_on_ranks(files, 2, sample_options(kRun), tiny_tensors(), 9);
  const auto message = [&](const std::vector<SampleTensor>& wanted) { return load_error(files, kRun, kAuto, wanted); };
  EXPECT_NE(message({{"nope", DType::f32, {2}}}).find("tensor 'nope', slice [2] at [0]: not in the checkpoint"),
            std::string::npos);
  EXPECT_NE(message({{"a", DType::f32, {7, 4}}}).find("tensor 'a': stored with shape [7, 3], wanted [7, 4]"),
            std::string::npos);
  EXPECT_NE(message({{"a", DType::bf16, {7, 3}}}).find("tensor 'a': stored as f32, wanted as bf16"), std::string::npos);
  Manifest manifest = read_manifest(files, std::string(kRun) + "/step-00000009");
  ASSERT_GE(manifest.index["b"].pieces.size(), 1U);
  manifest.index["b"].pieces[0].shape[0] -= 1;
  SampleTargets targets(tiny_tensors());
  try {
    load_tensors(files, std::string(kRun) + "/step-00000009", manifest, targets.targets());
    FAIL() << "a gap was loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_NE(
        std::string(error.what()).find("tensor 'b', slice [65] at [0]: 64 of 65 elements are stored; missing [1]"),
        std::string::npos)
        << error.what();
  }
}

TEST(Disk, TheSameRoundTripOnTheRealFileSystem) {
  const ScratchDirectory scratch;
  const auto files = make_posix_file_system();
  const std::string run = scratch.path() + "/deep/run/checkpoints";
  save_on_ranks(*files, 2, sample_options(run), sample_tensors(), 100'000'000);
  EXPECT_EQ(load_sample(*files, run, kAuto, sample_tensors()), 100'000'000);
  verify_checkpoint(*files, run + "/step-100000000", VerifyLevel::full);
  EXPECT_TRUE(leftovers(*files, run).empty());
}

}  // namespace
}  // namespace farsight
