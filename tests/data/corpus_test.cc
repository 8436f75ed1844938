// SPDX-License-Identifier: Apache-2.0
// Samples of a corpus against the definition in corpus.h, computed here from the arrays.
#include "data/corpus.h"

#include <algorithm>
#include <numeric>

#include "data/sidecar.h"
#include "tests/data/hdf5_sample.h"
#include "tests/data/scratch.h"

namespace farsight {
namespace {

constexpr int64_t kTokens = 1003;

struct Row {
  std::vector<int32_t> inputs, labels, documents;
  int64_t targets = 0;
  bool operator==(const Row&) const = default;
};

CorpusSample documents_sample(SampleStorage storage = SampleStorage::contiguous) {
  CorpusSample sample;
  for (int64_t i = 0; i < kTokens; ++i) sample.tokens.push_back(static_cast<int32_t>((i * i / 3 + 7 * i) % 256));
  // Borders at the beginning and the end of a sample of 64, documents of one token, and one over many samples.
  sample.doc_offsets = {0, 1, 2, 63, 64, 65, 100, 128, 191, 700, 701, 960, kTokens};
  sample.storage = storage;
  return sample;
}

// Sample u of one file by definition: inputs [uT, uT + T), labels one further.
Row expected_row(const CorpusSample& sample, int64_t u, int64_t t_count, Pack pack, int32_t padding) {
  Row row;
  const int64_t base = u * t_count, tokens = static_cast<int64_t>(sample.tokens.size());
  const std::vector<int64_t> starts =
      pack == Pack::documents && sample.doc_offsets ? *sample.doc_offsets : std::vector<int64_t>{0, tokens};
  int32_t document = 0;
  for (int64_t t = 0; t < t_count; ++t) {
    const int64_t at = base + t;
    const auto begins = [&](int64_t token) { return std::binary_search(starts.begin(), starts.end(), token); };
    if (t > 0 && at < tokens && begins(at)) ++document;
    const bool has_label = at + 1 < tokens,
               masked = sample.loss_mask && has_label && (*sample.loss_mask)[static_cast<size_t>(at + 1)] == 0;
    row.inputs.push_back(has_label ? sample.tokens[static_cast<size_t>(at)] : padding);
    row.labels.push_back(has_label && !begins(at + 1) && !masked ? sample.tokens[static_cast<size_t>(at + 1)] : -1);
    row.documents.push_back(document);
    row.targets += row.labels.back() >= 0 ? 1 : 0;
  }
  return row;
}

Row read_row(Corpus& corpus, int64_t sample, const std::vector<PositionRange>& ranges) {
  const auto n = static_cast<size_t>(total_size(ranges));
  Row row{.inputs = std::vector<int32_t>(n, -7),
          .labels = std::vector<int32_t>(n, -7),
          .documents = std::vector<int32_t>(static_cast<size_t>(corpus.sequence()), -7)};
  row.targets = corpus.read(sample, ranges, {.inputs = row.inputs, .labels = row.labels, .documents = row.documents});
  return row;
}

Row read_row(Corpus& corpus, int64_t sample) { return read_row(corpus, sample, {{0, corpus.sequence()}}); }

class CorpusTest : public testing::Test {
 protected:
  CorpusDescriptor make(const CorpusSample& sample, const std::string& name = "c.h5") const {
    std::filesystem::remove(scratch_.path(name));
    write_sample(scratch_.path(name), sample);
    return probe_corpus(scratch_.path(name));
  }

  std::string refusal(const CorpusSample& sample) const {
    return error_of(ErrorKind::data, [&] { make(sample); });
  }

  Scratch scratch_;
};

class StorageTest : public CorpusTest, public testing::WithParamInterface<std::tuple<SampleStorage, Storage>> {};

TEST_P(StorageTest, GivesTheSamplesOfTheDefinitionBitForBit) {
  const auto [storage, described] = GetParam();
  CorpusSample sample = documents_sample(storage);
  sample.loss_mask.emplace(sample.tokens.size(), uint8_t{1});
  for (size_t i = 0; i < sample.tokens.size(); i += 5) (*sample.loss_mask)[i] = 0;
  const CorpusDescriptor file = CorpusDescriptor::from_bytes(make(sample).to_bytes());
  EXPECT_EQ(file.splits[0].tokens.storage, described);
  for (const DataIo io : {DataIo::automatic, DataIo::map, DataIo::pread}) {
    for (const int64_t t : {64, 37}) {
      Corpus corpus({file}, {.sequence = t, .io = io, .trust = true});
      ASSERT_EQ(corpus.samples(), (kTokens - 1) / t);
      for (int64_t u = corpus.samples() - 1; u >= 0; --u) {
        corpus.prefetch(u, std::vector<PositionRange>{{0, t}});
        EXPECT_EQ(read_row(corpus, u), expected_row(sample, u, t, Pack::documents, 0)) << u;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Storages, StorageTest,
                         testing::Values(std::tuple(SampleStorage::contiguous, Storage::contiguous),
                                         std::tuple(SampleStorage::wide, Storage::contiguous),
                                         std::tuple(SampleStorage::chunks, Storage::chunked),
                                         std::tuple(SampleStorage::big_endian, Storage::library),
                                         std::tuple(SampleStorage::deflate, Storage::library),
                                         std::tuple(SampleStorage::fletcher, Storage::library),
                                         std::tuple(SampleStorage::compact, Storage::library)));

TEST_F(CorpusTest, ArchivesAreReadOnlyWithAMatchingChecksumFileOrTrust) {
  const CorpusDescriptor stranger = make(documents_sample(SampleStorage::deflate));
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { Corpus({stranger}, {.sequence = 64}); }), "no matching");
  TextOptions options{.inputs = {scratch_.write("a.txt", std::string(5000, 'x') + "yz")},
                      .output = scratch_.path("archive.h5"),
                      .compress = true};
  make_corpus(options);
  const CorpusDescriptor own = probe_corpus(options.output);
  EXPECT_EQ(own.splits[0].tokens.storage, Storage::library);
  Corpus corpus({own}, {.sequence = 5001});
  EXPECT_EQ(read_row(corpus, 0).labels.back(), 'z');
}

TEST_F(CorpusTest, TwoReadersOfOneArchiveDoNotCloseEachOther) {
  const CorpusSample sample = documents_sample(SampleStorage::deflate);
  const CorpusDescriptor file = make(sample);
  Corpus stays({file}, {.sequence = 64, .trust = true});
  {
    Corpus goes({file}, {.sequence = 37, .trust = true});
    EXPECT_EQ(read_row(goes, 3), expected_row(sample, 3, 37, Pack::documents, 0));
  }
  for (int64_t u = 0; u < stays.samples(); ++u) {
    EXPECT_EQ(read_row(stays, u), expected_row(sample, u, 64, Pack::documents, 0));
  }
}

// Positions of rank r of c for an order, by spec: contiguous, zigzag, striped blocks of b.
std::vector<PositionRange> contiguous_ranges(int64_t t, int64_t c, int64_t r) { return {{r * t / c, (r + 1) * t / c}}; }
std::vector<PositionRange> zigzag_ranges(int64_t t, int64_t c, int64_t r) {
  const auto chunk = [&](int64_t i) { return PositionRange{i * t / (2 * c), (i + 1) * t / (2 * c)}; };
  return {chunk(r), chunk(2 * c - 1 - r)};
}
std::vector<PositionRange> striped_ranges(int64_t t, int64_t c, int64_t r, int64_t b) {
  std::vector<PositionRange> ranges;
  for (int64_t block = r; block * b < t; block += c) ranges.push_back({block * b, std::min(t, (block + 1) * b)});
  return ranges;
}

using OrderOf = std::vector<PositionRange> (*)(int64_t t, int64_t c, int64_t r);
constexpr OrderOf kOrders[] = {contiguous_ranges, zigzag_ranges,
                               [](int64_t t, int64_t c, int64_t r) { return striped_ranges(t, c, r, 3); },
                               [](int64_t t, int64_t c, int64_t r) { return striped_ranges(t, c, r, 64); }};

// Sample u put together from what c context ranks read.
Row gather(Corpus& corpus, int64_t u, int64_t c, OrderOf order) {
  const int64_t t = corpus.sequence();
  Row whole{.inputs = std::vector<int32_t>(static_cast<size_t>(t), -7),
            .labels = std::vector<int32_t>(static_cast<size_t>(t), -7),
            .documents = {}};
  for (int64_t r = 0; r < c; ++r) {
    const std::vector<PositionRange> ranges = order(t, c, r);
    const Row part = read_row(corpus, u, ranges);
    auto input = part.inputs.begin(), label = part.labels.begin();
    for (const PositionRange& range : ranges) {
      std::copy_n(input, range.size(), whole.inputs.begin() + range.begin);
      std::copy_n(label, range.size(), whole.labels.begin() + range.begin);
      input += range.size();
      label += range.size();
    }
    whole.documents = part.documents;
    whole.targets += part.targets;
  }
  return whole;
}

class ContextSliceTest : public CorpusTest, public testing::WithParamInterface<std::tuple<int64_t, bool>> {};

TEST_P(ContextSliceTest, GatherToTheUnshardedSampleInEveryOrder) {
  const auto [t, evaluation] = GetParam();
  const CorpusSample sample = documents_sample();
  Corpus corpus({make(sample)}, {.sequence = t, .evaluation = evaluation});
  for (int64_t u = 0; u < corpus.samples(); ++u) {
    const Row expected = expected_row(sample, u, t, Pack::documents, 0);
    for (int64_t c = 1; c <= 4; ++c) {
      for (const OrderOf order : kOrders) EXPECT_EQ(gather(corpus, u, c, order), expected) << u << ' ' << c;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sequences, ContextSliceTest,
                         testing::Combine(testing::Values<int64_t>(256, 251), testing::Bool()));

int64_t bytes_read_so_far() {
  std::ifstream counters("/proc/self/io");
  std::string name;
  int64_t value = -1;
  counters >> name >> value;
  return name == "rchar:" ? value : -1;
}

TEST_F(CorpusTest, AContextRankReadsOnlyItsTokensAndOneLabelBehindEachRange) {
  if (bytes_read_so_far() < 0) GTEST_SKIP() << "needs /proc/self/io";
  CorpusSample sample = documents_sample();
  sample.doc_offsets.reset();
  Corpus corpus({make(sample)}, {.sequence = 512, .io = DataIo::pread});
  for (const int64_t c : {1, 2, 4}) {
    for (const auto& ranges :
         {contiguous_ranges(512, c, c - 1), zigzag_ranges(512, c, c - 1), striped_ranges(512, c, c - 1, 64)}) {
      const int64_t before = bytes_read_so_far(), between = bytes_read_so_far();
      read_row(corpus, 0, ranges);
      const int64_t read = bytes_read_so_far() - between - (between - before);
      EXPECT_LE(read, 2 * (512 / c + static_cast<int64_t>(ranges.size())) + 8) << c;  // 8: digits of the counter
      EXPECT_GE(read, 2 * 512 / c) << c;
    }
  }
}

TEST_F(CorpusTest, PackedDocumentsAreNumberedAndBordersAreNoTargets) {
  CorpusSample sample;
  sample.tokens = {10, 11, 12, 20, 21, 30, 40, 41, 42};
  sample.doc_offsets = {0, 3, 5, 6, 9};
  const CorpusDescriptor file = make(sample);
  Corpus packed({file}, {.sequence = 8});
  const Row row = read_row(packed, 0);
  EXPECT_EQ(row.inputs, (std::vector<int32_t>{10, 11, 12, 20, 21, 30, 40, 41}));
  EXPECT_EQ(row.labels, (std::vector<int32_t>{11, 12, -1, 21, -1, -1, 41, 42}));
  EXPECT_EQ(row.documents, (std::vector<int32_t>{0, 0, 0, 1, 1, 2, 3, 3}));
  EXPECT_EQ(row.targets, 5);
  Corpus plain({file}, {.sequence = 8, .pack = Pack::concat});
  const Row joined = read_row(plain, 0);
  EXPECT_EQ(joined.labels, (std::vector<int32_t>{11, 12, 20, 21, 30, 40, 41, 42}));
  EXPECT_EQ(joined.documents, std::vector<int32_t>(8, 0));
}

TEST_F(CorpusTest, LossMaskChoosesTargets) {
  CorpusSample sample;
  sample.tokens = {1, 2, 3, 4, 5, 6};
  sample.loss_mask = std::vector<uint8_t>{1, 0, 1, 1, 0, 1};
  Corpus corpus({make(sample)}, {.sequence = 5});
  EXPECT_EQ(read_row(corpus, 0).labels, (std::vector<int32_t>{-1, 3, 4, -1, 6}));
  EXPECT_EQ(read_row(corpus, 0).targets, 3);
}

TEST_F(CorpusTest, EvaluationScoresEveryTokenButTheFirstOnce) {
  const CorpusSample sample = documents_sample();
  const CorpusDescriptor file = make(sample);
  for (const int64_t t : {1, 7, 64, 501, 1002, 1003, 5000}) {
    Corpus corpus({file}, {.sequence = t, .pack = Pack::concat, .evaluation = true});
    EXPECT_EQ(corpus.samples(), (kTokens - 1 + t - 1) / t);
    std::vector<int32_t> scored;
    int64_t targets = 0;
    for (int64_t u = 0; u < corpus.samples(); ++u) {
      const Row row = read_row(corpus, u);
      targets += row.targets;
      std::copy_if(row.labels.begin(), row.labels.end(), std::back_inserter(scored),
                   [](int32_t id) { return id >= 0; });
    }
    EXPECT_EQ(targets, kTokens - 1);
    EXPECT_TRUE(std::equal(scored.begin(), scored.end(), sample.tokens.begin() + 1, sample.tokens.end())) << t;
  }
}

TEST_F(CorpusTest, SamplesOfSeveralFilesFollowEachOtherAndNeverCross) {
  CorpusSample first = documents_sample(), second = documents_sample(SampleStorage::chunks);
  first.tokens.resize(300);
  first.doc_offsets = {0, 150, 300};
  second.doc_offsets = {0, 500, kTokens};
  Corpus corpus({make(first, "a.h5"), make(second, "b.h5")}, {.sequence = 64});
  ASSERT_EQ(corpus.samples(), 4 + 15);
  EXPECT_EQ(corpus.tokens(), 300 + kTokens);
  EXPECT_TRUE(corpus.has_documents());
  for (int64_t u = 0; u < 19; ++u) {
    const Row expected =
        u < 4 ? expected_row(first, u, 64, Pack::documents, 0) : expected_row(second, u - 4, 64, Pack::documents, 0);
    EXPECT_EQ(read_row(corpus, u), expected) << u;
  }
  second.fingerprint = "0361ca70f3721e17";
  const CorpusDescriptor other = make(second, "b.h5");
  EXPECT_CONTAINS(error_of(ErrorKind::data,
                           [&] {
                             Corpus({make(first, "a.h5"), other}, {.sequence = 64});
                           }),
                  "tokeniser 0361ca70f3721e17");
}

TEST_F(CorpusTest, AFileWrittenByH5pyIsAccepted) {
  const std::string python = python_with_h5py();
  if (python.empty()) GTEST_SKIP() << "needs python3-h5py";
  const std::string script = scratch_.write("write.py",
                                            "import sys, h5py, numpy as np\n"
                                            "with h5py.File(sys.argv[1], 'w') as f:\n"
                                            "    f.attrs['format'] = 'farsight-data'\n"
                                            "    f.attrs['format_version'] = 1\n"
                                            "    f.attrs['kind'] = np.bytes_('tokens')\n"
                                            "    f.attrs['uuid'] = 'from-h5py'\n"
                                            "    t = f.create_group('tokenizer')\n"
                                            "    t.attrs['type'] = 'byte'\n"
                                            "    t.attrs['vocab_size'] = np.uint16(259)\n"
                                            "    f['train/tokens'] = np.arange(200, dtype='<u2')\n"
                                            "    f['train/doc_offsets'] = np.array([0, 150, 200])\n");
  const std::string path = scratch_.path("h5py.h5");
  ASSERT_EQ(std::system((python + " " + script + " " + path).c_str()), 0);
  const CorpusDescriptor file = probe_corpus(path);
  EXPECT_EQ(file.uuid, "from-h5py");
  Corpus corpus({file}, {.sequence = 199});
  const Row row = read_row(corpus, 0);
  EXPECT_EQ(row.inputs[149], 149);
  EXPECT_EQ(row.labels[149], -1);
  EXPECT_EQ(row.labels[198], 199);
}

TEST_F(CorpusTest, FilesThatAreNotACorpusAreExplained) {
  const auto refused = [&](const std::string& bytes, const std::string& part) {
    const std::string path = scratch_.write("bad.h5", bytes);
    EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { probe_corpus(path); }), part);
  };
  refused("", "the file is empty");
  refused("Once upon a time", "not an HDF5 file (16 bytes, no HDF5 signature)");
  refused("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "this is a Git LFS pointer");
  write_sample(scratch_.path("whole.h5"), documents_sample());
  const std::string whole = Scratch::read(scratch_.path("whole.h5"));
  refused(whole.substr(0, whole.size() - 1), "truncated");
  refused(whole.substr(0, whole.size() - 1), fmt::format("eof = {}", whole.size() - 1));
  const std::string absent = error_of(ErrorKind::data, [&] { probe_corpus(scratch_.path("absent.h5")); });
  EXPECT_CONTAINS(absent, "absent.h5: cannot open: No such file or directory");
  EXPECT_CONTAINS(absent, "prepare it with 'farsight data text FILE... -o ");
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { probe_corpus(scratch_.folder()); }), "is a folder");
}

TEST_F(CorpusTest, WrongContentIsNamedWithTheDataset) {
  CorpusSample sample = documents_sample();
  sample.version = 2;
  EXPECT_CONTAINS(refusal(sample), "format_version 2, this build reads 1");
  sample = documents_sample();
  sample.format = "";
  EXPECT_CONTAINS(refusal(sample), "no attribute 'format'");
  EXPECT_CONTAINS(refusal(sample), "/train/doc_offsets, /train/tokens");
  sample = documents_sample();
  sample.kind = "pairs";
  EXPECT_CONTAINS(refusal(sample), "kind is 'pairs'; 'tokens' and 'series' are known");
  sample = documents_sample();
  sample.split = "traning";
  EXPECT_CONTAINS(refusal(sample), "has no split 'train', 'valid' or 'test'");
  sample = documents_sample();
  sample.vocab_size = 0;
  EXPECT_CONTAINS(refusal(sample), "vocab_size is 0");
  sample = documents_sample();
  sample.loss_mask = std::vector<uint8_t>{1, 1};
  EXPECT_CONTAINS(refusal(sample), "'/train/loss_mask' has 2 elements");
  EXPECT_CONTAINS(refusal(documents_sample(SampleStorage::floats)), "'/train/tokens' is of floating-point numbers");
  CorpusSample even = documents_sample(SampleStorage::two_dimensional);
  even.tokens.pop_back();
  EXPECT_CONTAINS(refusal(even), "'/train/tokens' is of rank 2; rank 1 is needed");
  EXPECT_CONTAINS(refusal(documents_sample(SampleStorage::external)), "external files");
  EXPECT_CONTAINS(refusal(documents_sample(SampleStorage::soft_link)), "soft");
}

TEST_F(CorpusTest, MissingSplitsAndShortOnesAreExplained) {
  const CorpusDescriptor file = make(documents_sample());
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { Corpus({file}, {.split = "valid", .sequence = 8}); }),
                  "has no split 'valid' (has: train)");
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { Corpus({file}, {.sequence = 4096}); }),
                  "split 'train' holds 1003 tokens, a sample of sequence 4096 needs 4097");
}

TEST_F(CorpusTest, WrongDocumentOffsetsAreExplained) {
  const auto open = [&](const std::vector<int64_t>& offsets) {
    CorpusSample sample = documents_sample();
    sample.doc_offsets = offsets;
    return error_of(ErrorKind::data, [&] {
      Corpus corpus({make(sample)}, {.sequence = 64});
      for (int64_t u = 0; u < corpus.samples(); ++u) read_row(corpus, u);
    });
  };
  EXPECT_CONTAINS(open({1, 1003}), "'/train/doc_offsets' goes from 1 to 1003, 0 to 1003 is needed");
  EXPECT_CONTAINS(open({0, 1002}), "'/train/doc_offsets' goes from 0 to 1002, 0 to 1003 is needed");
  EXPECT_CONTAINS(open({0, 70, 70, 1003}), "'/train/doc_offsets' does not increase at index 2: 70 after 70");
  EXPECT_CONTAINS(open({0}), "has 1 entries");
}

TEST_F(CorpusTest, ATokenOutsideTheVocabularyIsNamedWithItsIndex) {
  CorpusSample sample = documents_sample();
  sample.vocab_size = 50257;
  sample.tokens[777] = 50300;
  for (const SampleStorage storage : {SampleStorage::contiguous, SampleStorage::wide, SampleStorage::deflate}) {
    sample.storage = storage;
    Corpus corpus({make(sample)}, {.sequence = 64, .trust = true});
    EXPECT_EQ(read_row(corpus, 11).inputs.size(), 64U);
    const std::string text = error_of(ErrorKind::data, [&] { read_row(corpus, 12); });
    EXPECT_CONTAINS(text, "'/train/tokens' holds token id 50300, vocabulary is 50257 (first at index 777)");
    EXPECT_CONTAINS(text, "(sample 12)");
  }
}

TEST_F(CorpusTest, TheLastIdOfTheVocabularyIsGoodAndTheNextAndNegativeOnesAreNot) {
  for (const int32_t id : {258, 259, 65'535, -1}) {
    CorpusSample sample = documents_sample(id < 0 ? SampleStorage::wide : SampleStorage::contiguous);
    sample.tokens.back() = id;  // a label only
    Corpus corpus({make(sample)}, {.sequence = kTokens - 1});
    const std::string text = error_of(ErrorKind::data, [&] { read_row(corpus, 0); });
    if (id == 258) {
      EXPECT_EQ(text, "");
    } else {
      EXPECT_CONTAINS(text, fmt::format("holds token id {}, vocabulary is 259 (first at index 1,002)", id));
    }
  }
}

TEST_F(CorpusTest, AnotherFileUnderTheSameNameIsNoticedWhenItIsOpened) {
  const CorpusDescriptor described = make(documents_sample());
  CorpusSample other = documents_sample();
  other.tokens[3] ^= 1;
  make(other);
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { Corpus({described}, {.sequence = 64, .where = "rank 1 (b): "}); }),
                  "rank 1 (b): ");
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { Corpus({described}, {.sequence = 64}); }), "not the same file here");
  std::filesystem::resize_file(described.file, static_cast<uintmax_t>(described.file_bytes) - 4096);
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { Corpus({described}, {.sequence = 64}); }), "bytes, ");
}

TEST_F(CorpusTest, DamagedDescriptorsNeverPass) {
  const std::string bytes = make(documents_sample(SampleStorage::chunks)).to_bytes();
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_THROW(CorpusDescriptor::from_bytes(std::string_view(bytes).substr(0, cut)), Error);
  }
  EXPECT_THROW(CorpusDescriptor::from_bytes(bytes + "x"), Error);
}

}  // namespace
}  // namespace farsight
