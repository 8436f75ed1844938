// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <set>

#include "data/reader.h"
#include "tests/data/scratch.h"

namespace farsight {
namespace {

constexpr int64_t kSequence = 8;

// 900 bytes, one document.
class BatchStreamTest : public testing::Test {
 protected:
  void SetUp() override { write(); }

  void write() {
    std::string text;
    for (int i = 0; i < 900; ++i) text += static_cast<char>('a' + (i * i / 7 + i) % 26);
    path_ = scratch_.path("c.h5");
    make_corpus({.inputs = {scratch_.write("a.txt", text)}, .output = path_, .overwrite = true});
  }

  std::shared_ptr<Corpus> corpus(CorpusOptions options = {}) const {
    options.sequence = kSequence;
    return std::make_shared<Corpus>(std::vector<CorpusDescriptor>{describe_corpus(path_)}, options);
  }

  // Global sample numbers that D data ranks see, merged in the order of the step.
  std::vector<int64_t> order(int64_t ranks, int64_t micro, int64_t batch, int64_t first, int steps) const {
    std::map<int64_t, int64_t> sample_of;  // g -> first token of the row, which tells the sample
    for (int64_t rank = 0; rank < ranks; ++rank) {
      BatchStream stream(corpus(), {.seed = 5,
                                    .first_sample = first,
                                    .global_batch = batch,
                                    .data_ranks = ranks,
                                    .data_rank = rank,
                                    .micro_batch = micro});
      for (int step = 0; step < steps; ++step) {
        for (const MicroBatch& m : stream.next()->micro) {
          for (size_t j = 0; j < m.sample_ids.size(); ++j) {
            const int32_t* row = m.inputs.data<int32_t>() + static_cast<int64_t>(j) * kSequence;
            int64_t key = 0;
            for (int t = 0; t < kSequence; ++t) key = key * 31 + row[t];
            EXPECT_TRUE(sample_of.emplace(m.sample_ids[j], key).second) << "a sample number is read twice";
          }
        }
      }
    }
    std::vector<int64_t> keys;
    int64_t g = first;
    for (const auto& [number, key] : sample_of) {
      EXPECT_EQ(number, g++);
      keys.push_back(key);
    }
    return keys;
  }

  Scratch scratch_;
  std::string path_;
};

TEST_F(BatchStreamTest, OrderDependsNeitherOnRanksNorOnMicroBatches) {
  const std::vector<int64_t> one = order(1, 1, 12, 0, 12);
  EXPECT_EQ(order(2, 1, 12, 0, 12), one);
  EXPECT_EQ(order(3, 2, 12, 0, 12), one);
  EXPECT_EQ(order(4, 3, 12, 0, 12), one);
}

TEST_F(BatchStreamTest, ResumesAtAnyStepOnAnotherLayoutAndBatch) {
  const std::vector<int64_t> whole = order(1, 1, 12, 0, 12);
  for (const int64_t stop : {12, 36, 96}) {
    std::vector<int64_t> parts = order(2, 2, 12, 0, static_cast<int>(stop / 12));
    const std::vector<int64_t> rest = order(3, 1, 6, stop, static_cast<int>((144 - stop) / 6));
    parts.insert(parts.end(), rest.begin(), rest.end());
    EXPECT_EQ(parts, whole) << stop;
  }
}

TEST_F(BatchStreamTest, AnEpochCoversEverySampleOnceAndEpochsDiffer) {
  const int64_t n = corpus()->samples();
  ASSERT_EQ(n, (900 - 1) / kSequence);
  for (const Shuffle shuffle : {Shuffle::none, Shuffle::samples}) {
    const SampleOrder samples(n, 5, shuffle);
    std::set<int64_t> seen;
    for (int64_t g = 0; g < n; ++g) seen.insert(samples.sample(g));
    EXPECT_EQ(static_cast<int64_t>(seen.size()), n);
  }
}

TEST_F(BatchStreamTest, EndsWithPaddedRowsThatHoldNoTarget) {
  const auto data = corpus({.evaluation = true});
  const int64_t n = data->samples();
  ASSERT_EQ(n, (899 + kSequence - 1) / kSequence);
  int64_t targets = 0, rows = 0, padding = 0;
  for (int64_t rank = 0; rank < 2; ++rank) {
    BatchStream stream(corpus({.evaluation = true}), {.shuffle = Shuffle::none,
                                                      .sample_limit = n,
                                                      .global_batch = 10,
                                                      .data_ranks = 2,
                                                      .data_rank = rank,
                                                      .micro_batch = 5});
    int steps = 0;
    while (const StepBatch* step = stream.next()) {
      ++steps;
      targets += step->valid_labels;
      for (const MicroBatch& micro : step->micro) {
        for (const int64_t id : micro.sample_ids) (id == kNoSample ? padding : rows) += 1;
      }
    }
    EXPECT_EQ(steps, (n + 9) / 10) << "every rank runs the same number of steps";
    EXPECT_EQ(stream.next(), nullptr);
  }
  EXPECT_EQ(rows, n);
  EXPECT_EQ(rows + padding, (n + 9) / 10 * 10);
  EXPECT_EQ(targets, 899) << "every token but the first is scored once";
}

TEST_F(BatchStreamTest, StreamsOfAnArchiveShareTheLibrarySafely) {
  std::string text;
  for (int i = 0; i < 5'000'000; ++i) text += static_cast<char>('a' + (i * 7 + i / 11) % 26);
  const TextOptions options{
      .inputs = {scratch_.write("big.txt", text)}, .output = scratch_.path("archive.h5"), .compress = true};
  make_corpus(options);
  const CorpusDescriptor file = describe_corpus(options.output);
  ASSERT_EQ(file.splits[0].tokens.storage, Storage::library);
  const auto open = [&] {
    return std::make_shared<Corpus>(std::vector<CorpusDescriptor>{file}, CorpusOptions{.sequence = 1000});
  };
  // Five chunks of a million: both threads decode all the time.
  BatchStream first(open(), {.shuffle = Shuffle::none, .sample_limit = 4999, .global_batch = 500});
  BatchStream second(open(), {.shuffle = Shuffle::none, .sample_limit = 4999, .global_batch = 500});
  while (const StepBatch* step = first.next()) {
    const StepBatch* other = second.next();
    for (size_t m = 0; m < step->micro.size(); ++m) {
      const MicroBatch &a = step->micro[m], &b = other->micro[m];
      if (a.sample_ids[0] == kNoSample) continue;
      EXPECT_EQ(a.labels.data<int32_t>()[999], text[static_cast<size_t>(a.sample_ids[0] * 1000 + 1000)]);
      EXPECT_TRUE(std::equal(a.inputs.data<int32_t>(), a.inputs.data<int32_t>() + 1000, b.inputs.data<int32_t>()));
    }
  }
}

TEST_F(BatchStreamTest, StoppingEarlyDoesNotHang) {
  BatchStream untouched(corpus(), {.global_batch = 4, .prefetch = 1});
  BatchStream begun(corpus(), {.global_batch = 4, .prefetch = 2});
  EXPECT_NE(begun.next(), nullptr);
}

TEST_F(BatchStreamTest, ABadTokenIsThrownAtItsStepWithTheSample) {
  const auto data = corpus({.pack = Pack::concat, .where = "rank 3 (node7): "});
  // One id beyond the vocabulary inside sample 6: the file is edited after it was described.
  const CorpusDescriptor described = describe_corpus(path_);
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(described.splits[0].tokens.offset + 2 * (6 * kSequence + 3));
  file.write("\x40\x01", 2);  // 320
  file.close();
  BatchStream stream(data, {.shuffle = Shuffle::none, .global_batch = 2, .prefetch = 3});
  for (int step = 0; step < 3; ++step) ASSERT_NE(stream.next(), nullptr);
  for (int again = 0; again < 2; ++again) {
    const std::string text = error_of(ErrorKind::data, [&] { stream.next(); });
    EXPECT_CONTAINS(text, "rank 3 (node7): ");
    EXPECT_CONTAINS(text, "'/train/tokens' holds token id 320, vocabulary is 259 (first at index 51)");
    EXPECT_CONTAINS(text, "(sample 6)");
  }
}

TEST_F(BatchStreamTest, AFileTruncatedWhileInUseIsAnErrorAtTheNextRead) {
  for (const DataIo io : {DataIo::map, DataIo::pread}) {
    write();
    const auto data = corpus({.io = io});
    std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 1);
    BatchStream stream(data, {.global_batch = 1});
    EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { stream.next(); }), "truncated or changed while in use");
  }
}

TEST_F(BatchStreamTest, RefusesABatchThatDoesNotDivide) {
  EXPECT_CONTAINS(error_of(ErrorKind::config,
                           [&] { BatchStream(corpus(), {.global_batch = 10, .data_ranks = 2, .micro_batch = 3}); }),
                  "not a multiple");
}

}  // namespace
}  // namespace farsight
