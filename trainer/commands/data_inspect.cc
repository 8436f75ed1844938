// SPDX-License-Identifier: Apache-2.0
// farsight data inspect, farsight data verify
#include <algorithm>
#include <ostream>

#include "data/corpus.h"
#include "data/file.h"
#include "data/tokenizer.h"
#include "data/verify.h"
#include "kernels/error.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/data_options.h"

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

CommandTable file_table(const char* command, const char* description) {
  return {.name = fmt::format("farsight data {}", command),
          .synopsis = "F.h5...",
          .description = description,
          .example = fmt::format("farsight data {} corpus.h5", command),
          .positional = "file",
          .options = {}};
}

Args files_of(const po::variables_map& values, const char* command) {
  if (values.count("file") == 0) fail(ErrorKind::usage, "farsight data {}: no file given", command);
  return values["file"].as<Args>();
}

}  // namespace

int run_data_inspect(const Args& args, std::ostream& out, std::ostream& /*err*/) {
  const auto values = parse_command(file_table("inspect", "Shows what a corpus holds."), args, out);
  if (!values) return 0;
  for (const std::string& path : files_of(*values, "inspect")) {
    const CorpusDescriptor corpus = probe_corpus(path);
    const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(corpus.tokenizer);
    print_corpus(corpus, out);
    for (const SplitDescriptor& split : corpus.splits) {
      print_split(split, out);
      print_beginning(corpus, split, *tokenizer, out);
    }
  }
  return 0;
}

int run_data_verify(const Args& args, std::ostream& out, std::ostream& err) {
  const auto values = parse_command(
      file_table("verify", "Checks checksums, content hashes, token ids and document borders of a corpus."), args, out);
  if (!values) return 0;
  for (const std::string& path : files_of(*values, "verify")) {
    const VerifyReport report = verify_corpus(path);
    if (!report.sidecar) err << fmt::format("{}: warning: no checksum file {}.sum beside it\n", path, path);
    for (const std::string& array : report.unhashed) {
      err << fmt::format("{}: warning: '{}' has no content hash\n", path, array);
    }
    out << fmt::format("{}: good: {} tokens, {} documents, {} content hashes{}\n", path, with_commas(report.tokens),
                       with_commas(report.documents), report.hashed, report.sidecar ? ", every byte" : "");
  }
  return 0;
}

}  // namespace farsight
