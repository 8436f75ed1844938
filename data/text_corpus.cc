// SPDX-License-Identifier: Apache-2.0
#include "data/text_corpus.h"

#include <algorithm>
#include <charconv>
#include <memory>

#include "data/bpe_tokenizer.h"
#include "data/bpe_train.h"
#include "data/corpus_check.h"
#include "data/corpus_writer.h"
#include "data/document_assembler.h"
#include "data/file.h"
#include "data/json_lines.h"
#include "data/ordered_pool.h"
#include "data/pretokenizer.h"
#include "data/text_source.h"
#include "data/tokenizer.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kReadBytes = 1 << 18;
constexpr int64_t kLargestNarrowVocabulary = 65'535;
constexpr int64_t kFewestDocuments = 3;
constexpr int64_t kSmallestTrained = 257;
constexpr std::string_view kTrain = "train:";

bool ends_with_any(const std::string& path, std::initializer_list<const char*> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](const char* ending) { return path.ends_with(ending); });
}

// Counts the bytes of all documents, and moves cuts to characters when it has them.
class PositionSink : public DocumentSink {
 public:
  explicit PositionSink(std::vector<int64_t> cuts) : finder_(std::move(cuts)) {}
  void text(std::string_view piece) override {
    bytes_ += static_cast<int64_t>(piece.size());
    finder_.feed(piece);
  }
  void end_document(const std::string& /*place*/) override {}
  int64_t bytes() const { return bytes_; }
  const std::vector<int64_t>& cuts() const { return finder_.cuts(); }

 private:
  CutFinder finder_;
  int64_t bytes_ = 0;
};

struct EncodedItem {
  std::string tokens;                 // ids of the width of the spool
  std::vector<int64_t> counts;        // per segment
  std::vector<TextSegment> segments;  // as given
};

EncodedItem encode_item(Tokenizer& tokenizer, const TextItem& item, bool eod, int width) {
  EncodedItem encoded{.tokens = {}, .counts = {}, .segments = item.segments};
  std::vector<uint32_t> ids;
  for (const TextSegment& segment : item.segments) {
    const size_t first = ids.size();
    tokenizer.encode(std::string_view(item.text).substr(segment.begin, segment.end - segment.begin), ids);
    if (eod && segment.ends_text) ids.push_back(static_cast<uint32_t>(tokenizer.info().eos_id));
    encoded.counts.push_back(static_cast<int64_t>(ids.size() - first));
  }
  encoded.tokens.resize(ids.size() * static_cast<size_t>(width));
  if (width == 4) {
    std::copy_n(reinterpret_cast<const char*>(ids.data()), encoded.tokens.size(), encoded.tokens.begin());
  } else {
    for (size_t i = 0; i < ids.size(); ++i) {
      encoded.tokens[2 * i] = static_cast<char>(ids[i]);
      encoded.tokens[2 * i + 1] = static_cast<char>(ids[i] >> 8);
    }
  }
  return encoded;
}

// Pre-tokens of an item: of whole documents of the first split, and of pieces whose document spans several items.
struct CountedItem {
  struct Piece {
    bool closes = false;
    int split = 0;
    PretokenCounts counts;
  };
  PretokenCounts train;
  std::vector<Piece> pieces;
};

CountedItem count_item(const TextItem& item) {
  CountedItem counted;
  for (const TextSegment& segment : item.segments) {
    const std::string_view text = std::string_view(item.text).substr(segment.begin, segment.end - segment.begin);
    if (segment.starts && segment.closes) {
      if (segment.split == 0) count_pretokens(text, counted.train);
      continue;
    }
    counted.pieces.push_back({.closes = segment.closes, .split = segment.split, .counts = {}});
    count_pretokens(text, counted.pieces.back().counts);
  }
  return counted;
}

// Sums counted items in the order of the text.
class TrainCounts {
 public:
  void add(const CountedItem& item) {
    add_counts(item.train, total_);
    for (const CountedItem::Piece& piece : item.pieces) {
      add_counts(piece.counts, open_);
      if (!piece.closes) continue;
      if (piece.split == 0) add_counts(open_, total_);
      open_.clear();
    }
  }
  const PretokenCounts& total() const { return total_; }

 private:
  PretokenCounts total_, open_;
};

int64_t parse_vocabulary_size(const std::string& text) {
  int64_t size = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  if (error != std::errc() || end != text.data() + text.size() || size < kSmallestTrained || size > kMaxVocabulary) {
    fail(ErrorKind::usage, "vocabulary size '{}': a number from {} (256 bytes and {}) to {} is needed", text,
         kSmallestTrained, kEndOfText, kMaxVocabulary);
  }
  return size;
}

class TextPipeline {
 public:
  TextPipeline(const TextOptions& options, const std::function<void(const TextProgress&)>& progress)
      : options_(options), report_progress_(progress), fractions_(SplitFractions::parse(options.split)) {}

  TextReport run() {
    check_options();
    refuse_existing(options_.output, options_.overwrite);
    make_or_train();
    if (options_.eod && tokenizer_->info().eos_id < 0) {
      fail(ErrorKind::usage, "--eod: the tokenizer {} has no end-of-document id", options_.tokenizer);
    }
    tokenise();
    check_splits();
    return write();
  }

  std::unique_ptr<Tokenizer> train_only() {
    check_options();
    make_or_train();
    return std::move(tokenizer_);
  }

 private:
  void check_options() {
    if (options_.inputs.empty()) fail(ErrorKind::usage, "data text: no input file; see farsight data text --help");
    if (options_.output.empty()) fail(ErrorKind::usage, "data text: no output; pass -o F.h5");
    for (const std::string& input : options_.inputs) {
      progress_.total_bytes += File::open_read(input).size();
    }
  }

  TextRules rules_for(const std::string& input) const {
    // Bytes need no characters; the JSON parser checks them itself and knows the line.
    const bool unchecked = options_.tokenizer == "byte" || is_json_lines(input);
    const bool accept = unchecked && options_.invalid_utf8 == InvalidUtf8::error;
    return {.raw = options_.raw && !is_json_lines(input),
            .invalid_utf8 = accept ? InvalidUtf8::accept : options_.invalid_utf8};
  }

  std::unique_ptr<DocumentSplitter> splitter_for(const std::string& input, DocumentSink& sink) {
    if (!is_json_lines(input)) return make_document_splitter(options_.document, options_.separator, sink);
    return make_json_lines_splitter(input, options_.field, options_.raw, problems_, changes_, sink);
  }

  // One pass over one input. Problems are collected; they end the run after the pass.
  std::string read_input(const std::string& input, bool hash, DocumentSink& sink) {
    const std::unique_ptr<TextSource> source = open_text_source(input, hash);
    const std::unique_ptr<DocumentSplitter> splitter = splitter_for(input, sink);
    TextChanges line_ends;  // those of a JSONL file are not text
    TextChanges& changes = is_json_lines(input) ? line_ends : changes_;
    TextNormaliser normaliser(input, rules_for(input), problems_, changes);
    std::string buffer(kReadBytes, '\0'), text;
    const int64_t before = progress_.read_bytes;
    while (const size_t got = source->read(buffer.data(), buffer.size())) {
      text.clear();
      normaliser.feed(std::string_view(buffer).substr(0, got), text);
      splitter->feed(text);
      progress_.read_bytes = before + source->consumed();
      report_progress_(progress_);
    }
    text.clear();
    normaliser.finish(text);
    splitter->feed(text);
    splitter->finish();
    changes_.replaced |= changes.replaced;
    return source->sha256();
  }

  void read_all(const char* phase, DocumentSink& sink) {
    progress_.phase = phase;
    progress_.read_bytes = 0;
    for (const std::string& input : options_.inputs) read_input(input, /*hash=*/false, sink);
    problems_.throw_if_any();
  }

  void find_cuts() {
    if (options_.by != SplitBy::position || fractions_.count() == 1) return;
    PositionSink count({});
    read_all("counting", count);
    PositionSink place(fractions_.cuts(count.bytes()));
    read_all("counting", place);
    cuts_ = place.cuts();
  }

  AssemblerRules assembler_rules() const {
    return {.fractions = &fractions_, .by = options_.by, .cuts = cuts_, .skip_empty = options_.skip_empty};
  }

  void make_or_train() {
    const std::string& specification = options_.tokenizer;
    const bool train = specification.starts_with(kTrain);
    const int64_t size = train ? parse_vocabulary_size(specification.substr(kTrain.size())) : 0;
    if (!train) tokenizer_ = make_tokenizer(specification);
    if (train && fractions_.names().front() != "train") {
      fail(ErrorKind::usage, "--tokenizer={} learns from the train split, and --split={} has none; pass bpe:FILE",
           specification, options_.split);
    }
    find_cuts();
    if (train) train_tokenizer(size);
  }

  // Learns from the first split only, so that the others stay unseen.
  void train_tokenizer(int64_t size) {
    TrainCounts counts;
    process<CountedItem>(
        "counting", last_certain_cut, [] { return [](const TextItem& item) { return count_item(item); }; },
        [&](const CountedItem& item) { counts.add(item); });
    progress_.phase = "training";
    report_progress_(progress_);
    tokenizer_ = make_bpe_tokenizer(make_vocabulary(train_bpe(counts.total(), size - kSmallestTrained)));
  }

  void tokenise() {
    const int width = tokenizer_->info().vocab_size <= kLargestNarrowVocabulary ? 2 : 4;
    spool_ = std::make_unique<TokenSpool>(folder_of(options_.output), width, static_cast<int>(fractions_.count()));
    process<EncodedItem>(
        "tokenising", [this](std::string_view text) { return tokenizer_->safe_prefix(text); },
        [&] {
          return [clone = std::shared_ptr<Tokenizer>(tokenizer_->clone()), eod = options_.eod,
                  width](const TextItem& item) { return encode_item(*clone, item, eod, width); };
        },
        [this](const EncodedItem& item) { store(item); });
  }

  // One pass over all documents: threads work on items, results arrive in order.
  template <typename Out>
  void process(const char* phase, DocumentAssembler::SafePrefix safe_prefix,
               const std::function<std::function<Out(TextItem)>()>& make_work,
               const std::function<void(const Out&)>& take) {
    progress_.phase = phase;
    progress_.read_bytes = 0;
    sha256_.clear();
    OrderedPool<TextItem, Out> pool(options_.threads, make_work);
    const auto most = static_cast<size_t>(2 * options_.threads);
    DocumentAssembler assembler(assembler_rules(), std::move(safe_prefix), problems_, [&](TextItem item) {
      pool.submit(std::move(item));
      while (pool.in_flight() >= most) take(pool.take());
    });
    for (size_t i = 0; i < options_.inputs.size(); ++i) {
      assembler.begin_input(options_.inputs[i], static_cast<int32_t>(i));
      sha256_.push_back(read_input(options_.inputs[i], /*hash=*/true, assembler));
    }
    assembler.finish();
    while (pool.in_flight() > 0) take(pool.take());
    documents_ = assembler.documents();
    skipped_ = assembler.skipped();
    problems_.throw_if_any();
  }

  void store(const EncodedItem& item) {
    int64_t at = 0;
    for (size_t i = 0; i < item.segments.size(); ++i) {
      const TextSegment& segment = item.segments[i];
      spool_->append(item.tokens.data() + at * spool_->width(), item.counts[i]);
      at += item.counts[i];
      progress_.text_bytes += static_cast<int64_t>(segment.end - segment.begin);
      progress_.tokens += item.counts[i];
      if (!segment.closes) continue;
      spool_->end_document(segment.split, segment.bytes, segment.source);
      ++progress_.documents;
    }
  }

  void check_splits() const {
    if (documents_ == 0) {
      fail(ErrorKind::data, "no document in {} input file(s), the first is {}", options_.inputs.size(),
           options_.inputs.front());
    }
    const bool by_document = options_.by == SplitBy::document;
    if (fractions_.count() > 1 && by_document && documents_ < kFewestDocuments) {
      fail(ErrorKind::data,
           "{} document(s) cannot be split by document into {}; pass --by=position, or cut smaller documents with "
           "--document=line|blank-line|separator:S",
           documents_, options_.split);
    }
    const std::vector<std::string> names = fractions_.names();
    for (size_t i = 0; i < names.size(); ++i) {
      if (spool_->totals()[i].documents > 0) continue;
      fail(ErrorKind::data, "split '{}' is empty: {} document(s) with --split={}; {}", names[i], documents_,
           options_.split,
           by_document ? "pass --by=position, or a larger fraction" : "pass a larger fraction, or more text");
    }
  }

  TextReport write() {
    progress_.phase = "writing";
    report_progress_(progress_);
    const CorpusHeader header{{.tool = options_.tool,
                               .command = options_.command,
                               .licence = options_.licence,
                               .normalised = changes_.names(),
                               .source_names = options_.inputs,
                               .source_sha256 = sha256_,
                               .reproducible = options_.reproducible,
                               .compress = options_.compress,
                               .overwrite = options_.overwrite},
                              tokenizer_->info(),
                              fractions_.names()};
    TextReport report;
    report.uuid = write_corpus(options_.output, header, *spool_);
    report.fingerprint = header.tokenizer.fingerprint;
    report.vocab_size = header.tokenizer.vocab_size;
    report.normalised = header.normalised;
    report.skipped = skipped_;
    for (size_t i = 0; i < header.splits.size(); ++i) {
      const SpoolTotals& totals = spool_->totals()[i];
      report.splits.push_back(
          {.name = header.splits[i], .documents = totals.documents, .tokens = totals.tokens, .bytes = totals.bytes});
    }
    return report;
  }

  const TextOptions& options_;
  const std::function<void(const TextProgress&)>& report_progress_;
  SplitFractions fractions_;
  TextProgress progress_;
  Problems problems_;
  TextChanges changes_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<int64_t> cuts_;
  std::unique_ptr<TokenSpool> spool_;
  std::vector<std::string> sha256_;
  int64_t documents_ = 0, skipped_ = 0;
};

}  // namespace

bool is_json_lines(const std::string& path) {
  return ends_with_any(path, {".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst"});
}

TextReport write_text_corpus(const TextOptions& options, const std::function<void(const TextProgress&)>& progress) {
  return TextPipeline(options, progress).run();
}

std::unique_ptr<Tokenizer> train_tokenizer(const TextOptions& options,
                                           const std::function<void(const TextProgress&)>& progress) {
  return TextPipeline(options, progress).train_only();
}

}  // namespace farsight
