// SPDX-License-Identifier: Apache-2.0
// farsight data text
#include <algorithm>
#include <chrono>
#include <map>
#include <ostream>
#include <thread>

#include "data/file.h"
#include "data/text_corpus.h"
#include "kernels/error.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/data_options.h"
#include "trainer/version.h"

namespace farsight {

namespace {

namespace po = boost::program_options;
using Args = std::vector<std::string>;

std::string join(const Args& args) {
  std::string text;
  for (const std::string& arg : args) text += fmt::format("{}{}", text.empty() ? "" : " ", arg);
  return text;
}

// One line every two seconds, so that a file of a log stays readable.
class ProgressPrinter {
 public:
  explicit ProgressPrinter(std::ostream& err) : err_(err) {}

  void operator()(const TextProgress& progress) {
    const auto now = Clock::now();
    if (phase_ != progress.phase) {
      phase_ = progress.phase;
      begin_ = last_ = now;
      return;
    }
    if (now - last_ < std::chrono::seconds(2)) return;
    last_ = now;
    print(progress, std::chrono::duration<double>(now - begin_).count());
  }

 private:
  using Clock = std::chrono::steady_clock;

  void print(const TextProgress& progress, double seconds) {
    const double read = static_cast<double>(progress.read_bytes), total = static_cast<double>(progress.total_bytes);
    std::string line = fmt::format("{} {:.0f}%", phase_, total > 0 ? 100 * read / total : 100.0);
    if (progress.tokens > 0) {
      line += fmt::format("  {} documents  {} tokens  {:.2f} bytes/token", with_commas(progress.documents),
                          with_commas(progress.tokens),
                          static_cast<double>(progress.text_bytes) / static_cast<double>(progress.tokens));
    }
    line += fmt::format("  {:.1f} MB/s", read / seconds / 1e6);
    if (read > 0) line += fmt::format("  eta {:.0f}s", seconds * (total - read) / read);
    err_ << line << std::endl;
  }

  std::ostream& err_;
  std::string phase_;
  Clock::time_point begin_, last_;
};

CommandTable text_table() {
  CommandTable table{.name = "farsight data text",
                     .synopsis = "FILE... -o F.h5 [options]",
                     .description =
                         "Tokenises text files and JSONL (*.jsonl: one document on each line), plain, .gz "
                         "or .zst, into one HDF5 corpus.",
                     .example = "farsight data text book.txt --tokenizer=byte --split=0.9/0.1 --by=position -o book.h5",
                     .positional = "input",
                     .options = {}};
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  table.options.add_options()                                        //
      ("output,o", po::value<std::string>(), "the corpus to write")  //
      ("tokenizer", po::value<std::string>()->default_value("byte"),
       "byte, gpt2:DIR (encoder.json, vocab.bpe), bpe:FILE (tokenizer.json), or train:SIZE on the train split")      //
      ("split", po::value<std::string>()->default_value("1"), "fractions of train/valid/test, e.g. 0.98/0.01/0.01")  //
      ("by", po::value<std::string>()->default_value("document"),
       "document: by a hash of its bytes; position: cut the whole text")  //
      ("document", po::value<std::string>()->default_value("file"),
       "what a document is: file, line, blank-line, separator:S (\\n and \\t are understood)")                 //
      ("field", po::value<std::string>()->default_value("text"), "JSONL: the string that holds the document")  //
      ("eod", po::bool_switch(), "an end-of-document id after every document")                                 //
      ("raw", po::bool_switch(), "keep every byte: no removal of byte-order marks, no CRLF to LF")             //
      ("invalid-utf8", po::value<std::string>()->default_value("error"), "error or replace (by U+FFFD)")       //
      ("empty", po::value<std::string>()->default_value("error"), "empty documents: error or skip")            //
      ("licence", po::value<std::string>()->default_value(""), "licence of the text, kept in the file")        //
      ("threads", po::value<int>()->default_value(static_cast<int>(cores)), "threads that tokenise")           //
      ("compress", po::bool_switch(), "deflate the arrays: for archives, slow to train from")                  //
      ("reproducible", po::bool_switch(), "derive uuid and time from the content")                             //
      ("overwrite", po::bool_switch(), "replace an existing output");
  return table;
}

template <typename T>
T choose(const po::variables_map& values, const char* option, const std::map<std::string, T>& choices) {
  const auto& value = values[option].as<std::string>();
  const auto found = choices.find(value);
  if (found != choices.end()) return found->second;
  std::string names;
  for (const auto& [name, unused] : choices) names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  fail(ErrorKind::usage, "--{}={}: use one of: {}", option, value, names);
}

std::string unescape(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 1 < text.size();
    const char next = escape ? text[i + 1] : '\0';
    if (escape && (next == 'n' || next == 't' || next == '\\')) {
      result += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
      ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

void read_document_mode(const po::variables_map& values, TextOptions& options) {
  constexpr std::string_view kSeparator = "separator:";
  const auto& mode = values["document"].as<std::string>();
  if (mode.starts_with(kSeparator)) {
    options.document = DocumentMode::separator;
    options.separator = unescape(mode.substr(kSeparator.size()));
    return;
  }
  options.document = choose<DocumentMode>(
      values, "document",
      {{"file", DocumentMode::file}, {"line", DocumentMode::line}, {"blank-line", DocumentMode::blank_line}});
}

TextOptions text_options(const po::variables_map& values, const Args& args) {
  TextOptions options;
  if (values.count("input") > 0) options.inputs = values["input"].as<Args>();
  if (values.count("output") > 0) options.output = values["output"].as<std::string>();
  options.tokenizer = values["tokenizer"].as<std::string>();
  read_document_mode(values, options);
  options.field = values["field"].as<std::string>();
  options.split = values["split"].as<std::string>();
  options.by = choose<SplitBy>(values, "by", {{"document", SplitBy::document}, {"position", SplitBy::position}});
  options.eod = values["eod"].as<bool>();
  options.raw = values["raw"].as<bool>();
  options.invalid_utf8 =
      choose<InvalidUtf8>(values, "invalid-utf8", {{"error", InvalidUtf8::error}, {"replace", InvalidUtf8::replace}});
  options.skip_empty = choose<bool>(values, "empty", {{"error", false}, {"skip", true}});
  options.threads = std::clamp(values["threads"].as<int>(), 1, 256);
  options.licence = values["licence"].as<std::string>();
  options.tool = std::string("farsight ") + version();
  options.command = "farsight data text " + join(args);
  options.compress = values["compress"].as<bool>();
  options.reproducible = values["reproducible"].as<bool>();
  options.overwrite = values["overwrite"].as<bool>();
  return options;
}

}  // namespace

int run_data_text(const Args& args, std::ostream& out, std::ostream& err) {
  const auto values = parse_command(text_table(), args, out);
  if (!values) return 0;
  const TextOptions options = text_options(*values, args);
  const auto begin = std::chrono::steady_clock::now();
  ProgressPrinter printer(err);
  const TextReport report = write_text_corpus(options, [&](const TextProgress& p) { printer(p); });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  int64_t bytes = 0;
  for (const SplitReport& split : report.splits) {
    out << fmt::format("{:5}  {} documents  {} tokens  {} bytes\n", split.name, with_commas(split.documents),
                       with_commas(split.tokens), with_commas(split.bytes));
    bytes += split.bytes;
  }
  if (report.skipped > 0) out << fmt::format("{} empty documents left out\n", with_commas(report.skipped));
  if (!report.normalised.empty()) out << fmt::format("normalised: {}\n", report.normalised);
  out << fmt::format("{}: vocabulary {}, fingerprint {}, {:.1f} s, {:.1f} MB/s\n", options.output, report.vocab_size,
                     report.fingerprint, seconds, static_cast<double>(bytes) / seconds / 1e6);
  out << fmt::format("next: farsight data inspect {}\n", options.output);
  return 0;
}

}  // namespace farsight
