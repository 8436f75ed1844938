// SPDX-License-Identifier: Apache-2.0
#include "data/text_corpus.h"

#include <sys/resource.h>

#include <csignal>

#include <zlib.h>
#include <zstd.h>

#include "data/sidecar.h"
#include "data/verify.h"
#include "tests/data/scratch.h"

namespace farsight {
namespace {

class TextCorpusTest : public testing::Test {
 protected:
  TextOptions options(const std::vector<std::string>& inputs) const {
    return {.inputs = inputs, .output = scratch_.path("c.h5"), .reproducible = true, .overwrite = true};
  }

  // The tokens of a split as text: byte ids, 256 shown as '#', documents separated by '|'.
  std::string show(const std::string& split) const {
    const CorpusDescriptor described = describe_corpus(scratch_.path("c.h5"));
    const int64_t n = described.find(split)->tokens.size;
    Corpus corpus({described}, {.split = split, .sequence = n, .evaluation = true});
    std::vector<int32_t> inputs(static_cast<size_t>(n)), labels(inputs.size()), documents(inputs.size());
    const PositionRange all{.begin = 0, .end = n};
    corpus.read(0, {&all, 1}, {.inputs = inputs, .labels = labels, .documents = documents});
    // The last token is a label only, and not even that when it begins a document.
    std::string text;
    for (size_t i = 0; i + 1 < inputs.size(); ++i) {
      if (i > 0 && documents[i] != documents[i - 1]) text += '|';
      text += inputs[i] == 256 ? '#' : static_cast<char>(inputs[i]);
    }
    return text;
  }

  void expect_refused(const TextOptions& options, const std::string& part) const {
    EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { make_corpus(options); }), part);
    for (const std::string& name : scratch_.names()) {
      EXPECT_TRUE(name.find("c.h5") == std::string::npos) << "left behind: " << name;
    }
  }

  Scratch scratch_;
};

TEST_F(TextCorpusTest, DocumentsAreFilesLinesParagraphsOrSeparated) {
  const std::string path = scratch_.write("a.txt", "\xEF\xBB\xBFone\r\ntwo\r\n\r\n\r\nthree\r\nfour\r\n");
  TextOptions o = options({path});
  o.eod = true;
  EXPECT_EQ(make_corpus(o).normalised, "bom,crlf");
  EXPECT_EQ(show("train"), "one\ntwo\n\n\nthree\nfour\n");
  o.document = DocumentMode::blank_line;
  EXPECT_EQ(make_corpus(o).splits[0].documents, 2);
  EXPECT_EQ(show("train"), "one\ntwo#|three\nfour");
  o.document = DocumentMode::line;
  o.skip_empty = true;
  EXPECT_EQ(make_corpus(o).skipped, 2);
  EXPECT_EQ(show("train"), "one#|two#|three#|four");
  o.document = DocumentMode::separator;
  o.separator = "o\n";
  make_corpus(o);
  EXPECT_EQ(show("train"), "one\ntw#|\n\nthree\nfour\n");
  EXPECT_NO_THROW(verify_corpus(scratch_.path("c.h5")));
}

TEST_F(TextCorpusTest, RawKeepsEveryByte) {
  const std::string bytes(
      "\xEF\xBB\xBF"
      "a\r\nb\0c",
      9);
  TextOptions o = options({scratch_.write("a.txt", bytes)});
  o.raw = true;
  EXPECT_EQ(make_corpus(o).splits[0].tokens, 9);
  EXPECT_EQ(show("train"), bytes.substr(0, 8));
}

TEST_F(TextCorpusTest, SplitByPositionCutsBeforeACharacter) {
  // 10 bytes; the cut at 5 lies inside the second three-byte character.
  TextOptions o = options({scratch_.write("a.txt", "a\xE6\x97\xB6\xE9\x97\xB4xyz")});
  o.split = "0.5/0.5";
  o.by = SplitBy::position;
  const TextReport report = make_corpus(o);
  EXPECT_EQ(report.splits[0].bytes, 4);
  EXPECT_EQ(report.splits[1].bytes, 6);
}

TEST_F(TextCorpusTest, SplitByDocumentIsStableUnderReorderingAndGrowth) {
  std::string text, turned, more;
  for (int i = 0; i < 400; ++i) {
    const std::string line = fmt::format("document number {}\n", i);
    text += line;
    turned.insert(0, line);
    more += line + fmt::format("another {}\n", i);
  }
  const auto train_lines = [&](const std::string& content) {
    TextOptions o = options({scratch_.write("a.txt", content)});
    o.document = DocumentMode::line;
    o.split = "0.8/0.1/0.1";
    make_corpus(o);
    std::vector<std::string> lines;
    std::istringstream stream(show("train"));
    for (std::string line; std::getline(stream, line, '|');) lines.push_back(line);
    lines.pop_back();  // show() leaves out the last token
    std::sort(lines.begin(), lines.end());
    return lines;
  };
  const auto once = train_lines(text), reversed = train_lines(turned), grown = train_lines(more);
  EXPECT_GT(once.size(), 280U);
  EXPECT_LT(once.size(), 360U);
  std::vector<std::string> both;
  std::set_intersection(once.begin(), once.end(), reversed.begin(), reversed.end(), std::back_inserter(both));
  EXPECT_GE(both.size() + 1, once.size());
  both.clear();
  std::set_intersection(once.begin(), once.end(), grown.begin(), grown.end(), std::back_inserter(both));
  EXPECT_GE(both.size() + 1, once.size());
}

TEST_F(TextCorpusTest, OutputDependsNeitherOnThreadsNorOnLocaleOrZone) {
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += fmt::format("{} it's {}\n", i % 977, i * 79 % 1000);
  TextOptions o = options({scratch_.write("a.txt", text), scratch_.write("b.txt", "short\n")});
  o.tokenizer = "train:400";
  o.split = "0.7/0.2/0.1";
  o.by = SplitBy::position;
  make_corpus(o);
  const std::string once = Scratch::read(o.output);
  EXPECT_GT(once.size(), 1U << 20);
  o.threads = 4;
  setenv("TZ", "Asia/Kathmandu", 1);
  setlocale(LC_ALL, "tr_TR.UTF-8");
  make_corpus(o);
  setlocale(LC_ALL, "C");
  EXPECT_EQ(Scratch::read(o.output), once);
}

TEST_F(TextCorpusTest, CompressedInputsAndArchivesHoldTheSame) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += fmt::format("line {}\n", i);
  std::string gz(text.size() + 100, '\0'), zst(ZSTD_compressBound(text.size()), '\0');
  const std::string gz_path = scratch_.path("a.txt.gz");
  gzFile file = gzopen(gz_path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  zst.resize(ZSTD_compress(zst.data(), zst.size(), text.data(), text.size(), 3));
  TextOptions o = options({scratch_.write("a.txt", text)});
  make_corpus(o);
  const std::string plain = show("train");
  for (const std::string& path : {gz_path, scratch_.write("a.txt.zst", zst)}) {
    o.inputs = {path};
    make_corpus(o);
    EXPECT_EQ(show("train"), plain);
  }
  o.compress = true;
  make_corpus(o);
  EXPECT_EQ(show("train"), plain);
  EXPECT_LT(std::filesystem::file_size(o.output), text.size());
  std::filesystem::remove(o.output);
  std::filesystem::remove(o.output + ".sum");
  o.inputs = {scratch_.write("cut.txt.gz", Scratch::read(gz_path).substr(0, 300))};
  expect_refused(o, "damaged gzip data");
  o.inputs = {scratch_.write("cut.txt.zst", zst.substr(0, zst.size() / 2))};
  expect_refused(o, "damaged zstd data");
}

TEST_F(TextCorpusTest, JsonLinesHoldADocumentEach) {
  TextOptions o = options({scratch_.write(
      "c.jsonl", "{\"id\": 1, \"text\": \"caf\\u00e9\\r\\n\", \"more\": {\"text\": \"no\"}}\n\n{\"text\":\"b\"}\n")});
  o.eod = true;
  EXPECT_EQ(make_corpus(o).normalised, "crlf");
  EXPECT_EQ(show("train"), "caf\xC3\xA9\n#|b");
}

TEST_F(TextCorpusTest, BadInputsAreExplained) {
  const auto bad = [&](const std::string& name, const std::string& bytes, const std::string& part) {
    TextOptions o = options({scratch_.write(name, bytes)});
    o.tokenizer = "train:300";
    expect_refused(o, part);
  };
  bad("book.txt", std::string(81'224, 'a') + "\xE9 b",
      "book.txt: byte 81,224: invalid UTF-8 (0xE9); use --invalid-utf8=replace or --tokenizer=byte");
  bad("many.txt", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "... and 3 more: invalid UTF-8");
  bad("wide.txt",
      std::string("\xFF\xFE"
                  "a\0b\0",
                  6),
      "iconv -f UTF-16 -t UTF-8");
  bad("nul.txt", std::string("ab\0c", 4), "byte 2: NUL byte");
  bad("zipped.txt", "\x1F\x8B\x08", "gzip data; rename it to");
  bad("c.jsonl", "{\"text\": \"a\"}\n{\"text\": }\n", "c.jsonl:2:10: ");
  bad("c.jsonl", "{\"text\": }\n", "unexpected '}'");
  bad("c.jsonl", "{\"body\": \"a\", \"id\": 3}\n", "c.jsonl:1: no field 'text' (has: body, id)");
  bad("c.jsonl", "{\"text\": 3}\n", "field 'text' is a number, not a string");
  bad("c.jsonl", std::string(100, '['), "nesting");
  bad("empty.txt", "", "empty document; --empty=skip");
  TextOptions o = options({scratch_.path("absent.txt")});
  expect_refused(o, "absent.txt: cannot open");
}

TEST_F(TextCorpusTest, SplitsThatCannotBeFilledAreExplained) {
  TextOptions o = options({scratch_.write("a.txt", "one document only")});
  o.split = "0.9/0.1";
  expect_refused(o, "--by=position");
  o.inputs = {scratch_.write("a.txt", "a\nb\nc\nd\n")};
  o.document = DocumentMode::line;
  o.split = "0.9999/0.0001";
  expect_refused(o, "split 'valid' is empty: 4 document(s)");
  o.split = "0.5/0.5/0";
  EXPECT_EQ(make_corpus(o).splits.size(), 2U);
  o.split = "0.5/0/0.5";
  EXPECT_EQ(make_corpus(o).splits[1].name, "test");
  o.split = "0/1";
  EXPECT_EQ(make_corpus(o).splits[0].name, "valid");
  o.tokenizer = "train:300";
  EXPECT_CONTAINS(error_of(ErrorKind::usage, [&] { make_corpus(o); }), "learns from the train split");
  o.split = "0.25/0.25/0.25/0.25";
  EXPECT_CONTAINS(error_of(ErrorKind::usage, [&] { make_corpus(o); }), "more than three fractions");
  o.split = "0.5/0.4";
  EXPECT_CONTAINS(error_of(ErrorKind::usage, [&] { make_corpus(o); }), "do not add up to 1");
}

TEST_F(TextCorpusTest, InvalidUtf8IsReplacedOnRequestAndRecorded) {
  TextOptions o = options({scratch_.write("a.txt", "a\xE9z b\xE2\x82")});
  o.invalid_utf8 = InvalidUtf8::replace;
  EXPECT_EQ(make_corpus(o).normalised, "utf8");
  EXPECT_EQ(show("train").substr(0, 7), "a\xEF\xBF\xBDz b");
}

TEST_F(TextCorpusTest, AnExistingFileIsKept) {
  TextOptions o = options({scratch_.write("a.txt", "new")});
  o.overwrite = false;
  scratch_.write("c.h5", "precious");
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { make_corpus(o); }), "--overwrite");
  EXPECT_EQ(Scratch::read(o.output), "precious");
}

TEST_F(TextCorpusTest, AFullDiskLeavesTheOldFileAndNothingElse) {
  std::string text;
  while (text.size() < 400'000) text += "abcdefgh";
  TextOptions o = options({scratch_.write("a.txt", text)});
  scratch_.write("c.h5", "old");
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  for (const rlim_t limit : {1000UL, 500'000UL, 801'000UL}) {
    const rlimit tight{.rlim_cur = limit, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &tight);
    const std::string text_of_error = error_of(ErrorKind::io, [&] { make_corpus(o); });
    setrlimit(RLIMIT_FSIZE, &old);
    EXPECT_FALSE(text_of_error.empty()) << limit;
    EXPECT_EQ(scratch_.names(), (std::vector<std::string>{"a.txt", "c.h5"})) << limit << ": " << text_of_error;
    EXPECT_EQ(Scratch::read(o.output), "old");
  }
  EXPECT_NO_THROW(make_corpus(o));
  EXPECT_TRUE(verify_corpus(o.output).sidecar);
}

}  // namespace
}  // namespace farsight
