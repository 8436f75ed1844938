// SPDX-License-Identifier: Apache-2.0
// Random texts and damaged vocabularies from consecutive seeds. Decoding gives back what was encoded; a text cut at
// safe_prefix has the ids of the whole; a damaged tokenizer.json is Error{data} or a vocabulary that keeps both rules.
// Ends at the first that breaks this, with the command that repeats it.
//
//   tokenizer_fuzz [--seed FIRST] [--count N]      --count 0 runs until it is stopped
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "data/bpe_tokenizer.h"
#include "data/bpe_train.h"
#include "data/byte_tokenizer.h"
#include "data/tokenizer.h"
#include "kernels/error.h"
#include "tests/fuzz/fuzz_driver.h"

namespace farsight {
namespace {

using Random = std::mt19937_64;

uint64_t below(Random& random, uint64_t limit) { return limit == 0 ? 0 : random() % limit; }

std::string random_text(Random& random, size_t longest) {
  static const char* const kWords[] = {"low",
                                       " lower",
                                       " newest",
                                       "'s",
                                       "'re",
                                       " ",
                                       "  ",
                                       "\n",
                                       "\r\n",
                                       "12",
                                       " 3",
                                       "!?",
                                       "\xC2\xA0",
                                       "caf\xC3\xA9",
                                       "\xE6\x97\xB6\xE9\x97\xB4",
                                       "\xF0\x9F\x99\x82",
                                       "\xE6\x97",
                                       "<|endoftext|>",
                                       "_",
                                       "\t\t"};
  std::string text;
  for (size_t n = below(random, longest); n > 0; --n) {
    if (below(random, 10) == 0) {
      text += static_cast<char>(random());
    } else {
      text += kWords[below(random, std::size(kWords))];
    }
  }
  if (below(random, 20) == 0) text.append(below(random, 3000), " a!"[below(random, 3)]);
  return text;
}

std::string check_rules(Tokenizer& tokenizer, const std::string& text) {
  const std::vector<uint32_t> ids = encode(tokenizer, text);
  if (decode(tokenizer, ids) != text) return fmt::format("decode(encode('{}')) differs", text);
  const size_t cut = tokenizer.safe_prefix(text);
  if (cut > text.size()) return "the safe prefix is longer than the text";
  std::vector<uint32_t> parts = encode(tokenizer, std::string_view(text).substr(0, cut));
  const std::vector<uint32_t> rest = encode(tokenizer, std::string_view(text).substr(cut));
  parts.insert(parts.end(), rest.begin(), rest.end());
  return parts == ids ? "" : fmt::format("'{}' cut at {} has other ids", text, cut);
}

std::unique_ptr<Tokenizer> small_bpe(Random& random) {
  PretokenCounts counts;
  count_pretokens(random_text(random, 200), counts);
  return make_bpe_tokenizer(make_vocabulary(train_bpe(counts, static_cast<int64_t>(below(random, 60)))));
}

std::string damaged(std::string json, Random& random) {
  static const char* const kTokens[] = {"-1", "300", "4294967296", "1e9", "null",  "[",        "]",   "{",
                                        "}",  "\"",  ",",          ":",   "\"a\"", "[[[[[[[[", "\xFF"};
  for (uint64_t n = 1 + below(random, 3); n > 0; --n) {
    const size_t at = below(random, json.size());
    switch (below(random, 4)) {
      case 0:
        json[at] = static_cast<char>(random());
        break;
      case 1:
        json.erase(at, 1 + below(random, 20));
        break;
      case 2:
        json.insert(at, json.substr(below(random, json.size()), below(random, 60)));
        break;
      default:
        json.replace(at, below(random, 4), kTokens[below(random, std::size(kTokens))]);
    }
  }
  return json;
}

std::string check_damaged(Random& random) {
  const std::string json = damaged(small_bpe(random)->info().json, random);
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = make_bpe_tokenizer(parse_tokenizer_json(json, "f"));
  } catch (const Error& error) {
    return error.kind() == ErrorKind::data ? "" : error.what();
  }
  return check_rules(*tokenizer, random_text(random, 40));
}

std::string check(uint64_t seed) {
  Random random(seed);
  try {
    if (seed % 3 == 0) return check_damaged(random);
    const std::unique_ptr<Tokenizer> tokenizer = seed % 3 == 1 ? small_bpe(random) : make_byte_tokenizer();
    return check_rules(*tokenizer, random_text(random, 60));
  } catch (const std::exception& error) {
    return std::string("exception: ") + error.what();
  }
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) { return farsight::run_fuzz("tokenizer_fuzz", argc, argv, farsight::check); }
