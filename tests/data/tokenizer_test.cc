// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.h"

#include <algorithm>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "data/bpe_tokenizer.h"
#include "data/bpe_train.h"
#include "data/file.h"
#include "data/pretokenizer.h"
#include "data/sha256.h"
#include "tests/data/scratch.h"

namespace farsight {
namespace {

using Ids = std::vector<uint32_t>;
using Merges = std::vector<std::pair<uint32_t, uint32_t>>;

std::string hash_of(const Ids& ids) {
  Sha256 hash;
  hash.update(ids.data(), ids.size() * sizeof(uint32_t));
  return hash.hex().substr(0, 16);
}

const std::vector<std::string>& hard_strings() {
  static const std::vector<std::string> strings = {
      "",
      " ",
      "don't we'll THEY'RE 'tis",
      std::string(1000, ' ') + "x",
      "\t\t\n\n  \r\n end",
      "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB\xF0\x9F\x8F\xBD \xF0\x9F\x99\x82",
      "\xE6\x97\xB6\xE9\x97\xB4\xE5\xBA\x8F\xE5\x88\x97\xEF\xBC\x8C\xE6\xB3\xA8\xE6\x84\x8F\xE5\x8A\x9B",
      "Z\xCC\x83\xCC\xA3"
      "a\xCC\x81lgo",
      "\xFF\xC0\x80 broken \xE2\x82",
      std::string("nul\0inside", 10),
      "<|endoftext|>"};
  return strings;
}

std::string random_bytes(std::mt19937& engine, size_t most) {
  std::string bytes(engine() % (most + 1), '\0');
  for (char& byte : bytes) byte = static_cast<char>(engine());
  return bytes;
}

void expect_round_trips(Tokenizer& tokenizer, int count) {
  for (const std::string& text : hard_strings()) EXPECT_EQ(decode(tokenizer, encode(tokenizer, text)), text);
  std::mt19937 engine(11);
  for (int i = 0; i < count; ++i) {
    const std::string bytes = random_bytes(engine, 100);
    ASSERT_EQ(decode(tokenizer, encode(tokenizer, bytes)), bytes);
  }
}

TEST(Fingerprint, TextIsTheOneOfTheSpecification) {
  const std::string_view text = fingerprint_text();
  EXPECT_EQ(text.size(), 102U);
  std::string hex;
  for (const char byte : text) hex += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  EXPECT_EQ(
      hex,
      "48656c6c6f2020776f726c640d0a0a0927746973206974277320332e3134652d3520e28094206e61c3af76652063616665cc8120e69"
      "7b6e997b4e5ba8fe5889720f09f998220d097d0b4d180d0b0d0b2c2a0d9a0d9a1203c7c656e646f66746578747c3e2020");
}

TEST(ByteTokenizer, HasTheSpecifiedIdsAndFingerprint) {
  const auto tokenizer = make_tokenizer(std::string("byte"));
  EXPECT_EQ(tokenizer->info().vocab_size, 259);
  EXPECT_EQ(tokenizer->info().eos_id, 256);
  EXPECT_EQ(tokenizer->info().bos_id, 257);
  EXPECT_EQ(tokenizer->info().pad_id, 258);
  EXPECT_EQ(tokenizer->info().fingerprint, "13beb2915ade65b5");
  EXPECT_EQ(encode(*tokenizer, "A\xFF"), (Ids{65, 255}));
  expect_round_trips(*tokenizer, 10'000);
  std::string bytes;
  EXPECT_THROW(tokenizer->decode(259, bytes), Error);
}

TEST(BpeTraining, ReproducesTheVectorsOfTheSpecification) {
  EXPECT_EQ(train_bpe({{"aaabdaaabac", 1}}, 100), (Merges{{97, 97}, {97, 98}, {256, 257}}));
  EXPECT_EQ(train_bpe({{"low", 5}, {" lower", 2}, {" newest", 6}, {" widest", 3}}, 6),
            (Merges{{101, 115}, {256, 116}, {108, 111}, {258, 119}, {32, 110}, {101, 119}}));
  const auto tokenizer = make_bpe_tokenizer(make_vocabulary({{97, 97}, {97, 98}, {256, 257}}));
  EXPECT_EQ(encode(*tokenizer, "aaabdaaabac"), (Ids{258, 100, 258, 97, 99}));
}

TEST(BpeTraining, TiesGoToTheSmallerIds) {
  EXPECT_EQ(train_bpe({{"zy", 2}, {"ab", 2}, {"ac", 2}}, 1), (Merges{{97, 98}}));
  EXPECT_TRUE(train_bpe({{"abc", 1}}, 10).empty()) << "a pair seen once is not learned";
}

// The definition, without any index: count all pairs anew for every merge.
Merges train_naively(const std::vector<std::pair<std::string, int64_t>>& words, size_t merges) {
  std::vector<Ids> ids;
  for (const auto& [text, unused] : words) ids.emplace_back(text.begin(), text.end());
  Merges result;
  while (result.size() < merges) {
    std::map<std::pair<uint32_t, uint32_t>, int64_t> counts;
    for (size_t w = 0; w < ids.size(); ++w) {
      for (size_t i = 0; i + 1 < ids[w].size(); ++i) counts[{ids[w][i], ids[w][i + 1]}] += words[w].second;
    }
    const auto best = std::max_element(counts.begin(), counts.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == counts.end() || best->second < 2) break;
    const auto id = static_cast<uint32_t>(256 + result.size());
    result.push_back(best->first);
    for (Ids& word : ids) {
      Ids merged;
      for (size_t i = 0; i < word.size(); ++i) {
        const bool here = i + 1 < word.size() && std::pair(word[i], word[i + 1]) == best->first;
        merged.push_back(here ? id : word[i]);
        i += here ? 1 : 0;
      }
      word = merged;
    }
  }
  return result;
}

TEST(BpeTraining, EqualsTheDefinitionOnRandomWords) {
  std::mt19937 engine(3);
  for (int round = 0; round < 30; ++round) {
    std::map<std::string, int64_t> words;
    for (int i = 0; i < 40; ++i) {
      std::string word;
      for (size_t length = 1 + engine() % 9; word.size() < length;) word += static_cast<char>('a' + engine() % 4);
      words[word] += 1 + engine() % 5;
    }
    const PretokenCounts counts(words.begin(), words.end());
    EXPECT_EQ(train_bpe(counts, 40), train_naively({words.begin(), words.end()}, 40));
  }
}

std::unique_ptr<Tokenizer> small_tokenizer() {
  std::mt19937 engine(9);
  PretokenCounts counts;
  for (int i = 0; i < 3000; ++i) {
    std::string word;
    for (size_t length = 1 + engine() % 12; word.size() < length;) word += " abc"[engine() % 4];
    ++counts[word];
  }
  return make_bpe_tokenizer(make_vocabulary(train_bpe(counts, 200)));
}

// The definition of encoding: the lowest-ranked pair, all its occurrences from the left, until none is ranked.
Ids encode_naively(const BpeVocabulary& vocabulary, const std::string& piece) {
  Ids ids;
  for (const char byte : piece) ids.push_back(vocabulary.byte_ids[static_cast<uint8_t>(byte)]);
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    Ids merged;
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool here = i + 1 < ids.size() && std::pair(ids[i], ids[i + 1]) == vocabulary.merges[rank];
      merged.push_back(here ? vocabulary.products[rank] : ids[i]);
      i += here ? 1 : 0;
    }
    ids = merged;
  }
  return ids;
}

TEST(BpeTokenizer, ShortAndLongPiecesEqualTheDefinition) {
  const auto tokenizer = small_tokenizer();
  const BpeVocabulary vocabulary = parse_tokenizer_json(tokenizer->info().json, "json");
  std::mt19937 engine(4);
  for (int i = 0; i < 400; ++i) {
    std::string text;
    for (size_t length = 1 + engine() % 200; text.size() < length;) text += "abc"[engine() % 3];
    ASSERT_EQ(pretoken_end(text, 0), text.size());
    const Ids expected = encode_naively(vocabulary, text);
    ASSERT_EQ(encode(*tokenizer, text), expected) << text;
    ASSERT_EQ(encode(*tokenizer, text), expected) << "from the cache: " << text;
  }
}

TEST(BpeTokenizer, RoundTripsAndSurvivesItsJson) {
  const auto tokenizer = small_tokenizer();
  expect_round_trips(*tokenizer, 2000);
  const auto again = make_tokenizer(tokenizer->info());
  EXPECT_EQ(again->info().json, tokenizer->info().json);
  TokenizerInfo other = tokenizer->info();
  other.fingerprint = "0123456789abcdef";
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { make_tokenizer(other); }), "0123456789abcdef");
}

TEST(BpeTokenizer, AMegabyteOfSpacesIsNotQuadratic) {
  const auto tokenizer = make_bpe_tokenizer(make_vocabulary({{32, 32}, {256, 256}, {257, 257}}));
  EXPECT_EQ(encode(*tokenizer, std::string(1 << 20, ' ')).size(), size_t{1} << 17);
}

TEST(BpeVocabulary, BadFilesAreRefusedByReason) {
  const std::string good = small_tokenizer()->info().json;
  const auto refuse = [](const std::string& json) {
    return error_of(ErrorKind::data, [&] { parse_tokenizer_json(json, "t.json"); });
  };
  EXPECT_CONTAINS(refuse("{"), "not valid JSON");
  EXPECT_CONTAINS(refuse("[]"), "no JSON object");
  EXPECT_CONTAINS(refuse("{}"), "no BPE model");
  EXPECT_CONTAINS(refuse(std::string(100, '[') + std::string(100, ']')), "nesting");
  std::string bad = good;
  bad.replace(bad.find("\"a\":97"), 6, "\"a\":98");
  EXPECT_CONTAINS(refuse(bad), "given twice");
  bad = good;
  bad.replace(bad.find("\"add_prefix_space\":false", bad.find("\"pre_tokenizer\"")), 24, "\"add_prefix_space\":true");
  EXPECT_CONTAINS(refuse(bad), "adds a space");
  EXPECT_CONTAINS(error_of(ErrorKind::usage, [] { make_tokenizer(std::string("word")); }), "unknown tokenizer 'word'");
  EXPECT_CONTAINS(error_of(ErrorKind::data, [] { make_tokenizer(std::string("bpe:/no/such.json")); }), "/no/such.json");
}

TEST(TrainedTokenizer, DoesNotDependOnThreads) {
  FARSIGHT_NEEDS_REAL_DATA("text/tinyshakespeare.txt");
  std::string first;
  for (const int threads : {1, 4}) {
    TextOptions options{.inputs = {real_data("text/tinyshakespeare.txt")}, .output = "none"};
    options.tokenizer = "train:1000";
    options.threads = threads;
    const auto tokenizer = train_tokenizer(options, [](const TextProgress&) {});
    EXPECT_EQ(tokenizer->info().vocab_size, 1000);
    if (first.empty()) first = tokenizer->info().json;
    EXPECT_EQ(tokenizer->info().json, first);
  }
}

class Gpt2 : public testing::Test {
 protected:
  void SetUp() override {
    FARSIGHT_NEEDS_REAL_DATA("tokenizer/encoder.json");
    tokenizer_ = make_tokenizer("gpt2:" + real_data("tokenizer"));
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(Gpt2, FingerprintAndIdsAreThoseOfTheSpecification) {
  EXPECT_EQ(tokenizer_->info().fingerprint, "0361ca70f3721e17");
  EXPECT_EQ(tokenizer_->info().vocab_size, 50257);
  EXPECT_EQ(tokenizer_->info().eos_id, 50256);
  EXPECT_EQ(
      encode(*tokenizer_, fingerprint_text()),
      (Ids{15496, 220,   995,   201,  628,   197, 470, 271,   340,  338,   513, 13,    1415, 68,    12,    20,  851,
           41492, 26725, 136,   223,  10545, 245, 114, 29785, 112,  41753, 237, 26344, 245,  32485, 12466, 245, 43666,
           21169, 16142, 38857, 1849, 149,   254, 149, 94,    1279, 91,    437, 1659,  5239, 91,    29,    220, 220}));
}

struct Reference {
  const char* file;
  size_t count;
  const char* sha256;
};

TEST_F(Gpt2, RealTextsHaveTheCountsAndHashesOfAnIndependentImplementation) {
  for (const Reference& reference : {Reference{"text/tinyshakespeare.txt", 338'025, "0c00ab83dc7f4666"},
                                     Reference{"text/wikitext-2/valid.txt", 258'659, "9c87f1a0a64b3a69"},
                                     Reference{"text/wikitext-2/test.txt", 295'877, "b707897cad36e76a"},
                                     Reference{"text/tatoeba_eng_cmn.tsv", 1'911'047, "c86c01c76077a839"}}) {
    FARSIGHT_NEEDS_REAL_DATA(reference.file);
    const std::string text = read_whole(real_data(reference.file), 1 << 30);
    const Ids ids = encode(*tokenizer_, text);
    EXPECT_EQ(ids.size(), reference.count) << reference.file;
    EXPECT_EQ(hash_of(ids), reference.sha256) << reference.file;
    EXPECT_EQ(decode(*tokenizer_, ids), text) << reference.file;
  }
}

TEST_F(Gpt2, BooksAndRandomBytesRoundTrip) {
  expect_round_trips(*tokenizer_, 10'000);
  FARSIGHT_NEEDS_REAL_DATA("text/gutenberg");
  for (const auto& book : std::filesystem::directory_iterator(real_data("text/gutenberg"))) {
    const std::string text = read_whole(book.path().string(), 1 << 30);
    EXPECT_EQ(decode(*tokenizer_, encode(*tokenizer_, text)), text) << book.path();
  }
}

TEST_F(Gpt2, SplitByPositionHasTheCountsOfTheSpecification) {
  FARSIGHT_NEEDS_REAL_DATA("text/tinyshakespeare.txt");
  const Scratch scratch;
  TextOptions options{.inputs = {real_data("text/tinyshakespeare.txt")}, .output = scratch.path("c.h5")};
  options.tokenizer = "gpt2:" + real_data("tokenizer");
  options.split = "0.9/0.1";
  options.by = SplitBy::position;
  options.raw = true;
  options.threads = 3;
  const TextReport report = make_corpus(options);
  ASSERT_EQ(report.splits.size(), 2U);
  EXPECT_EQ(report.splits[0].tokens, 301'966);
  EXPECT_EQ(report.splits[1].tokens, 36'059);
}

}  // namespace
}  // namespace farsight
