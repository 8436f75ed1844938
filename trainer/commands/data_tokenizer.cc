// SPDX-License-Identifier: Apache-2.0
// farsight data tokenizer train|encode|decode|fingerprint
#include <algorithm>
#include <charconv>
#include <ostream>
#include <thread>

#include "data/bpe_vocabulary.h"
#include "data/corpus.h"
#include "data/file.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "kernels/error.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/data_options.h"

namespace farsight {

namespace {

namespace po = boost::program_options;
using Args = std::vector<std::string>;

constexpr int64_t kMaxTextBytes = int64_t{1} << 30;

// "byte", "gpt2:DIR", "bpe:FILE", or the corpus that holds one.
std::unique_ptr<Tokenizer> find_tokenizer(const std::string& specification) {
  if (specification.ends_with(".h5")) return make_tokenizer(probe_corpus(specification).tokenizer);
  return make_tokenizer(specification);
}

Args required(const po::variables_map& values, const char* option, const char* command) {
  if (values.count(option) == 0)
    fail(ErrorKind::usage, "farsight data tokenizer {}: no {} given; see --help", command, option);
  return values[option].as<Args>();
}

int train(const Args& args, std::ostream& out, std::ostream& err) {
  CommandTable table{.name = "farsight data tokenizer train",
                     .synopsis = "FILE... --vocab=SIZE -o tokenizer.json",
                     .description = "Learns a byte-pair vocabulary; vocab.json and merges.txt are written beside it.",
                     .example = "farsight data tokenizer train book.txt --vocab=8192 -o tokenizer.json",
                     .positional = "input",
                     .options = {}};
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  table.options.add_options()                                                                        //
      ("vocab", po::value<std::string>()->default_value("8192"), "ids in all")                       //
      ("output,o", po::value<std::string>()->default_value("tokenizer.json"), "file to write")       //
      ("field", po::value<std::string>()->default_value("text"), "JSONL: the string to learn from")  //
      ("threads", po::value<int>()->default_value(static_cast<int>(cores)), "threads that count")    //
      ("overwrite", po::bool_switch(), "replace existing files");
  const auto values = parse_command(table, args, out);
  if (!values) return 0;
  TextOptions options;
  options.inputs = required(*values, "input", "train");
  options.output = (*values)["output"].as<std::string>();
  options.tokenizer = "train:" + (*values)["vocab"].as<std::string>();
  options.field = (*values)["field"].as<std::string>();
  options.threads = std::clamp((*values)["threads"].as<int>(), 1, 256);
  const std::string folder = folder_of(options.output);
  if (!path_exists(folder)) fail(ErrorKind::data, "{}: no such folder; create it or choose another -o", folder);
  const Args paths = {options.output, folder + "/vocab.json", folder + "/merges.txt"};
  for (const std::string& path : paths) {
    if (!(*values)["overwrite"].as<bool>() && path_exists(path)) {
      fail(ErrorKind::data, "{}: exists already; choose another -o or pass --overwrite", path);
    }
  }
  const auto tokenizer = train_tokenizer(options, [](const TextProgress&) {});
  const BpeVocabulary vocabulary = parse_tokenizer_json(tokenizer->info().json, "the new tokenizer");
  write_whole(paths[0], tokenizer->info().json);
  write_whole(paths[1], to_vocab_json(vocabulary));
  write_whole(paths[2], to_merges_text(vocabulary));
  out << fmt::format("{}: {} ids, fingerprint {}\n", paths[0], tokenizer->info().vocab_size,
                     tokenizer->info().fingerprint);
  err << std::flush;
  return 0;
}

CommandTable with_tokenizer(const char* command, const char* synopsis, const char* description, const char* example,
                            const char* positional) {
  CommandTable table{.name = fmt::format("farsight data tokenizer {}", command),
                     .synopsis = synopsis,
                     .description = description,
                     .example = example,
                     .positional = positional,
                     .options = {}};
  table.options.add_options()("tokenizer", po::value<std::string>()->default_value("byte"),
                              "byte, gpt2:DIR, bpe:FILE, or a corpus F.h5");
  return table;
}

int encode_files(const Args& args, std::ostream& out, std::ostream& /*err*/) {
  const auto values = parse_command(
      with_tokenizer("encode", "FILE... --tokenizer=T", "Prints the ids of every byte of the files, a line for each.",
                     "farsight data tokenizer encode note.txt --tokenizer=bpe:tokenizer.json", "input"),
      args, out);
  if (!values) return 0;
  const auto tokenizer = find_tokenizer((*values)["tokenizer"].as<std::string>());
  for (const std::string& path : required(*values, "input", "encode")) {
    const char* separator = "";
    for (const uint32_t id : encode(*tokenizer, read_whole(path, kMaxTextBytes))) {
      out << separator << id;
      separator = " ";
    }
    out << '\n';
  }
  return 0;
}

uint32_t parse_id(const std::string& text) {
  uint32_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error == std::errc() && end == text.data() + text.size()) return id;
  fail(ErrorKind::usage, "farsight data tokenizer decode: '{}' is not a token id", text);
}

int decode_ids(const Args& args, std::ostream& out, std::ostream& /*err*/) {
  auto table = with_tokenizer("decode", "ID... --tokenizer=T [-o FILE]",
                              "Prints the text of ids; bytes that are not UTF-8 are shown as U+FFFD.",
                              "farsight data tokenizer decode 72 105 --tokenizer=byte", "id");
  table.options.add_options()("output,o", po::value<std::string>(), "write the exact bytes to a file instead");
  const auto values = parse_command(table, args, out);
  if (!values) return 0;
  const auto tokenizer = find_tokenizer((*values)["tokenizer"].as<std::string>());
  std::vector<uint32_t> ids;
  for (const std::string& text : required(*values, "id", "decode")) ids.push_back(parse_id(text));
  const std::string bytes = decode(*tokenizer, ids);
  if (values->count("output") > 0) {
    write_whole((*values)["output"].as<std::string>(), bytes);
  } else {
    out << show_bytes(bytes) << '\n';
  }
  return 0;
}

int fingerprint(const Args& args, std::ostream& out, std::ostream& /*err*/) {
  const auto values = parse_command(CommandTable{.name = "farsight data tokenizer fingerprint",
                                                 .synopsis = "TOKENIZER...",
                                                 .description = "Prints the fingerprint of byte, gpt2:DIR, bpe:FILE or "
                                                                "a corpus F.h5.",
                                                 .example = "farsight data tokenizer fingerprint byte corpus.h5",
                                                 .positional = "tokenizer",
                                                 .options = {}},
                                    args, out);
  if (!values) return 0;
  for (const std::string& specification : required(*values, "tokenizer", "fingerprint")) {
    const auto tokenizer = find_tokenizer(specification);
    const TokenizerInfo& info = tokenizer->info();
    out << fmt::format("{}  {} {} ids  {}\n", info.fingerprint, info.type, info.vocab_size, specification);
  }
  return 0;
}

}  // namespace

std::string show_bytes(const std::string& bytes) {
  std::string text;
  for (std::string_view rest = bytes; !rest.empty();) {
    const Utf8Character next = decode_character(rest);
    text += next.valid ? rest.substr(0, next.length) : std::string_view("\xEF\xBF\xBD");
    rest.remove_prefix(next.length);
  }
  return text;
}

int run_data_tokenizer(const Args& args, std::ostream& out, std::ostream& err) {
  const Args rest(args.begin() + (args.empty() ? 0 : 1), args.end());
  const std::string command = args.empty() ? "" : args[0];
  if (command == "train") return train(rest, out, err);
  if (command == "encode") return encode_files(rest, out, err);
  if (command == "decode") return decode_ids(rest, out, err);
  if (command == "fingerprint") return fingerprint(rest, out, err);
  if (command == "--help" || command == "-h") {
    out << "usage: farsight data tokenizer COMMAND ...\n\n"
           "  train        learn a byte-pair vocabulary from text\n"
           "  encode       print the ids of files\n"
           "  decode       print the text of ids\n"
           "  fingerprint  print the fingerprint of a tokenizer or corpus\n\n"
           "farsight data tokenizer COMMAND --help explains each.\n";
    return 0;
  }
  fail(ErrorKind::usage, "farsight data tokenizer: {}; use train, encode, decode or fingerprint",
       command.empty() ? "no command given" : fmt::format("no command '{}'", command));
}

}  // namespace farsight
