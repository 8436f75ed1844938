// SPDX-License-Identifier: Apache-2.0
// Random and damaged text through everything that `farsight data text` does before tokenising, from consecutive seeds:
// normalisation, cutting into documents, JSONL; and damaged checksum files. Nothing but Error{data} may come out, and
// the documents must not depend on the pieces in which the text arrives. Ends at the first that breaks this.
//
//   text_fuzz [--seed FIRST] [--count N]      --count 0 runs until it is stopped
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "data/document_splitter.h"
#include "data/json_lines.h"
#include "data/sidecar.h"
#include "data/text_normaliser.h"
#include "kernels/error.h"
#include "tests/fuzz/fuzz_driver.h"

namespace farsight {
namespace {

using Random = std::mt19937_64;

uint64_t below(Random& random, uint64_t limit) { return limit == 0 ? 0 : random() % limit; }

// What the readers look for, whole and broken.
std::string fragment(Random& random) {
  static const char* const kFragments[] = {"\xEF\xBB\xBF",
                                           "\r\n",
                                           "\r",
                                           "\n",
                                           "\n\n",
                                           " ",
                                           "\t",
                                           "a",
                                           "word ",
                                           "\xC3",
                                           "\xA9",
                                           "\xE6\x97\xB6",
                                           "\xE6\x97",
                                           "\xF0\x9F\x99\x82",
                                           "\xF0\x9F",
                                           "\xED\xA0\x80",
                                           "\xFF",
                                           "{",
                                           "}",
                                           "\"text\"",
                                           "\"",
                                           ":",
                                           "\"id\": 1",
                                           ",",
                                           "[",
                                           "]",
                                           "\\",
                                           "\\u00e9",
                                           "\\ud83d",
                                           "{\"text\": \"ab\\r\\n\"}\n",
                                           "1e999",
                                           "null"};
  return kFragments[below(random, std::size(kFragments))];
}

std::string random_text(Random& random) {
  std::string text;
  for (uint64_t n = below(random, 40); n > 0; --n) text += fragment(random);
  if (below(random, 8) == 0) text.insert(below(random, text.size() + 1), below(random, 200), '[');
  if (below(random, 8) == 0 && !text.empty()) text[below(random, text.size())] = static_cast<char>(random());
  return text;
}

class Collector : public DocumentSink {
 public:
  void text(std::string_view piece) override { document_ += piece; }
  void end_document(const std::string& place) override {
    documents.push_back(place + "|" + document_);
    document_.clear();
  }
  std::vector<std::string> documents;

 private:
  std::string document_;
};

struct Options {
  TextRules rules;
  bool json = false;
  DocumentMode mode = DocumentMode::file;
  std::string separator;
};

Options random_options(Random& random) {
  return {.rules = {.raw = below(random, 4) == 0, .invalid_utf8 = static_cast<InvalidUtf8>(below(random, 3))},
          .json = below(random, 3) == 0,
          .mode = static_cast<DocumentMode>(below(random, 4)),
          .separator = below(random, 2) == 0 ? "\n" : "word "};
}

// The order of problems of different kinds may depend on the pieces.
std::vector<std::string> sorted_lines(const std::string& message) {
  std::vector<std::string> lines = {"error"};
  std::istringstream stream(message);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  std::sort(lines.begin() + 1, lines.end());
  return lines;
}

// Documents or, after an error, its message; `sizes` gives the pieces.
std::vector<std::string> documents_of(const std::string& text, const Options& options, Random& sizes, bool whole) {
  Problems problems;
  TextChanges changes;
  Collector collector;
  const auto splitter = options.json
                            ? make_json_lines_splitter("f", "text", options.rules.raw, problems, changes, collector)
                            : make_document_splitter(options.mode, options.separator, collector);
  TextNormaliser normaliser("f", options.rules, problems, changes);
  try {
    for (size_t at = 0; at < text.size();) {
      const size_t piece = whole ? text.size() : 1 + below(sizes, 9);
      std::string out;
      normaliser.feed(std::string_view(text).substr(at, piece), out);
      splitter->feed(out);
      at += piece;
    }
    std::string out;
    normaliser.finish(out);
    splitter->feed(out);
    splitter->finish();
    problems.throw_if_any();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data) throw;
    return sorted_lines(error.what());
  }
  collector.documents.push_back("changes: " + changes.names());
  return collector.documents;
}

std::string check_text(Random& random) {
  const std::string text = random_text(random);
  const Options options = random_options(random);
  const auto once = documents_of(text, options, random, true), pieces = documents_of(text, options, random, false);
  if (once == pieces) return "";
  return fmt::format("'{}' in pieces gives '{}', at once '{}'", text, fmt::join(pieces, "' '"), fmt::join(once, "' '"));
}

std::string check_sidecar(Random& random) {
  const Sidecar good{
      .uuid = "5a3b0f0e-0000-4000-8000-000000000001", .bytes = 70'000'000, .xxh3 = random(), .crc32c = {1, 2}};
  std::string text = to_text(good);
  for (uint64_t n = below(random, 4); n > 0; --n) {
    const size_t at = below(random, text.size());
    if (below(random, 2) == 0) {
      text[at] = static_cast<char>(random());
    } else {
      text.replace(at, below(random, 9), below(random, 2) == 0 ? "18446744073709551615" : "\n");
    }
  }
  try {
    const Sidecar read = parse_sidecar(text, "f.sum");
    if (parse_sidecar(to_text(read), "f.sum").crc32c != read.crc32c)
      return "a checksum file does not read back: " + text;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data) return error.what();
  }
  return "";
}

std::string check(uint64_t seed) {
  Random random(seed);
  try {
    return seed % 4 == 0 ? check_sidecar(random) : check_text(random);
  } catch (const std::exception& error) {
    return std::string("foreign exception: ") + error.what();
  }
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) { return farsight::run_fuzz("text_fuzz", argc, argv, farsight::check); }
