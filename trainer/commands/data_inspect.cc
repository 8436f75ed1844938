// SPDX-License-Identifier: Apache-2.0
// farsight data inspect
#include <algorithm>
#include <charconv>
#include <ostream>

#include "data/corpus.h"
#include "data/file.h"
#include "data/probe.h"
#include "data/tokenizer.h"
#include "kernels/error.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/data_options.h"
#include "trainer/commands/inspect_json.h"

namespace farsight {

namespace {

namespace po = boost::program_options;
using Args = std::vector<std::string>;

constexpr int64_t kShownTokens = 48;

const char* to_string(Storage storage) {
  switch (storage) {
    case Storage::contiguous:
      return "contiguous";
    case Storage::chunked:
      return "chunked";
    case Storage::library:
      break;
  }
  return "compressed or converted";
}

std::string element_type(const ArrayDescriptor& array) {
  return fmt::format("{}{}", array.is_signed ? "int" : "uint", 8 * array.width);
}

void print_array(const ArrayDescriptor& array, std::ostream& out) {
  out << fmt::format("  {:20} {:7} [{}] {}\n", array.path, element_type(array), with_commas(array.size),
                     to_string(array.storage));
}

// One line, with control characters and damaged UTF-8 made visible.
std::string printable(const std::string& bytes) {
  std::string text;
  for (const char byte : bytes) {
    if (byte == '\n') {
      text += "\\n";
    } else if (static_cast<uint8_t>(byte) < 32) {
      text += fmt::format("\\x{:02x}", static_cast<uint8_t>(byte));
    } else {
      text += byte;
    }
  }
  return show_bytes(text);
}

void print_beginning(const CorpusDescriptor& corpus, const SplitDescriptor& split, const Tokenizer& tokenizer,
                     std::ostream& out) {
  const int64_t count = std::min(kShownTokens, split.tokens.size - 1);
  if (count < 1) return;
  Corpus reader({corpus}, {.split = split.name, .sequence = count, .pack = Pack::concat});
  std::vector<int32_t> inputs(static_cast<size_t>(count)), labels(inputs.size());
  const PositionRange all{.begin = 0, .end = count};
  reader.read(0, {&all, 1}, {.inputs = inputs, .labels = labels, .documents = {}});
  const std::vector<uint32_t> ids(inputs.begin(), inputs.end());
  out << fmt::format("  begins: {}\n", printable(decode(tokenizer, ids)));
}

void print_split(const SplitDescriptor& split, std::ostream& out) {
  const int64_t documents = split.doc_offsets ? split.doc_offsets->size - 1 : 1;
  out << fmt::format("{}: {} tokens in {} documents", split.name, with_commas(split.tokens.size),
                     with_commas(documents));
  if (split.bytes_of_text >= 0) {
    out << fmt::format(", {} bytes of text, {:.3f} bytes/token", with_commas(split.bytes_of_text),
                       static_cast<double>(split.bytes_of_text) / static_cast<double>(split.tokens.size));
  }
  out << '\n';
  print_array(split.tokens, out);
  if (split.doc_offsets) print_array(*split.doc_offsets, out);
  if (split.loss_mask) print_array(*split.loss_mask, out);
}

void print_corpus(const CorpusDescriptor& corpus, std::ostream& out) {
  const TokenizerInfo& tokenizer = corpus.tokenizer;
  out << fmt::format("{}: tokens, {} bytes, uuid {}\n", corpus.file, with_commas(corpus.file_bytes), corpus.uuid);
  out << fmt::format("tokenizer: {}, {} ids, fingerprint {}, eos {}, bos {}, pad {}{}{}\n", tokenizer.type,
                     tokenizer.vocab_size, tokenizer.fingerprint, tokenizer.eos_id, tokenizer.bos_id, tokenizer.pad_id,
                     tokenizer.pretokenizer.empty() ? "" : ", pre-tokenizer ", tokenizer.pretokenizer);
  out << fmt::format("licence: {}\n", corpus.licence.empty() ? "not stated" : corpus.licence);
  out << fmt::format("normalised: {}\n", corpus.normalised.empty() ? "nothing" : corpus.normalised);
  for (const std::string& name : corpus.source_names) out << fmt::format("source: {}\n", name);
  out << fmt::format("checksum file: {}\n", corpus.sidecar ? "present" : "none that matches");
}

CommandTable inspect_table() {
  CommandTable table{
      .name = "farsight data inspect",
      .synopsis = "F.h5... [options]",
      .description =
          "Shows what a corpus or a file of time series holds, and how far simple forecasters get on the series.",
      .example = "farsight data inspect etth1.h5 --baselines --lookback=96,336 --horizon=96,192,336,720",
      .positional = "file",
      .options = {}};
  const auto text = [](const char* value) { return po::value<std::string>()->default_value(value); };
  table.options.add_options()  //
      ("baselines", po::bool_switch(),
       "errors of repeat_last, seasonal_naive, window_mean and linear (closed form) on time series")  //
      ("lookback", text("96"), "rows that a forecast sees; several: 96,336")                          //
      ("horizon", text("96"), "rows to forecast; several: 96,192,336,720")                            //
      ("split", text("test"), "train, valid or test")                                                 //
      ("season", text("auto"), "rows of a season; auto: a day, week or year by the frequency")        //
      ("drop-last", text("0"),
       "N: leave out the windows after the last full batch of N, to reproduce old tables; 0: use every window")  //
      ("json", po::bool_switch(), "one JSON object per file");
  return table;
}

int64_t whole_number(const char* option, std::string_view text, int64_t least) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least) {
    fail(ErrorKind::usage, "--{}: '{}' is not a whole number from {} on", option, text, least);
  }
  return value;
}

std::vector<int64_t> whole_numbers(const char* option, std::string_view text) {
  std::vector<int64_t> values;
  while (true) {
    const size_t comma = text.find(',');
    values.push_back(whole_number(option, text.substr(0, comma), 1));
    if (comma == std::string_view::npos) return values;
    text.remove_prefix(comma + 1);
  }
}

std::optional<BaselineRequest> baseline_request(const po::variables_map& values) {
  if (!values["baselines"].as<bool>()) {
    for (const char* option : {"lookback", "horizon", "split", "season", "drop-last"}) {
      if (!values[option].defaulted()) fail(ErrorKind::usage, "--{} is for --baselines, which is not given", option);
    }
    return std::nullopt;
  }
  const auto text = [&](const char* option) { return values[option].as<std::string>(); };
  BaselineRequest request;
  request.lookbacks = whole_numbers("lookback", text("lookback"));
  request.horizons = whole_numbers("horizon", text("horizon"));
  request.split = text("split");
  request.season = text("season") == "auto" ? 0 : whole_number("season", text("season"), 1);
  request.drop_last = whole_number("drop-last", text("drop-last"), 0);
  return request;
}

void inspect_corpus(const CorpusDescriptor& corpus, bool json, std::ostream& out) {
  if (json) {
    out << corpus_json(corpus);
    return;
  }
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(corpus.tokenizer);
  print_corpus(corpus, out);
  for (const SplitDescriptor& split : corpus.splits) {
    print_split(split, out);
    print_beginning(corpus, split, *tokenizer, out);
  }
}

void inspect_series(const SeriesDescriptor& file, const std::optional<BaselineRequest>& request, bool json,
                    std::ostream& out) {
  const SeriesFacts facts = read_series_facts(file);
  if (!json) print_series(facts, out);
  std::optional<BaselineTable> baselines;
  if (request) baselines = measure_baselines(file, *request);
  if (json) {
    out << series_json(facts, baselines ? &*baselines : nullptr);
  } else if (baselines) {
    print_baselines(*baselines, out);
  }
}

}  // namespace

int run_data_inspect(const Args& args, std::ostream& out, std::ostream& /*err*/) {
  const auto values = parse_command(inspect_table(), args, out);
  if (!values) return 0;
  if (values->count("file") == 0) fail(ErrorKind::usage, "farsight data inspect: no file given");
  const std::optional<BaselineRequest> request = baseline_request(*values);
  const bool json = (*values)["json"].as<bool>();
  for (const std::string& path : (*values)["file"].as<Args>()) {
    const DataDescriptor found = probe_data(path);
    if (const auto* series = std::get_if<SeriesDescriptor>(&found)) {
      inspect_series(*series, request, json, out);
      continue;
    }
    if (request) fail(ErrorKind::usage, "{}: holds tokens; --baselines is for time series", path);
    inspect_corpus(std::get<CorpusDescriptor>(found), json, out);
  }
  return 0;
}

}  // namespace farsight
