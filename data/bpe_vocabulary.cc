// SPDX-License-Identifier: Apache-2.0
#include "data/bpe_vocabulary.h"

#include <algorithm>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "data/corpus_check.h"
#include "data/file.h"
#include "data/utf8.h"
#include "kernels/error.h"

namespace farsight {

namespace {

using Json = nlohmann::json;  // ordered_json looks keys up one by one: quadratic in the vocabulary
using Ids = std::unordered_map<std::string, uint32_t>;

constexpr int kMaxJsonDepth = 64;
constexpr uint32_t kFirstReplacement = 0x100;

// The character that stands for a byte in vocabulary files: printable bytes for themselves, the others from U+0100 on.
class ByteCharacters {
 public:
  ByteCharacters() {
    bytes_.fill(-1);
    uint32_t next = kFirstReplacement;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      codes_[byte] = printable ? byte : next++;
      bytes_[codes_[byte]] = static_cast<int>(byte);
    }
  }

  std::string to_text(const std::string& bytes) const {
    std::string text;
    for (const char byte : bytes) append_utf8(codes_[static_cast<uint8_t>(byte)], text);
    return text;
  }

  // Nothing when the text holds another character.
  std::optional<std::string> to_bytes(std::string_view text) const {
    std::string bytes;
    while (!text.empty()) {
      const Utf8Character next = decode_character(text);
      if (!next.valid || next.code >= bytes_.size() || bytes_[next.code] < 0) return std::nullopt;
      bytes += static_cast<char>(bytes_[next.code]);
      text.remove_prefix(next.length);
    }
    return bytes;
  }

 private:
  std::array<uint32_t, 256> codes_{};
  std::array<int, 512> bytes_{};
};

Json parse_json(const std::string& text, const std::string& name) {
  const auto limit_depth = [&](int depth, Json::parse_event_t /*event*/, Json& /*parsed*/) {
    if (depth > kMaxJsonDepth) fail(ErrorKind::data, "{}: more than {} levels of nesting", name, kMaxJsonDepth);
    return true;
  };
  try {
    return Json::parse(text, limit_depth);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::data, "{}: not valid JSON: {}", name, std::string(error.what()).substr(0, 200));
  }
}

// Builds a vocabulary from token strings with ids and from merges in the notation of the files.
class VocabularyBuilder {
 public:
  explicit VocabularyBuilder(std::string name) : name_(std::move(name)) {}

  void add_tokens(const Json& table) {
    if (!table.is_object()) refuse("the vocabulary is not an object of token: id");
    for (const auto& [token, id] : table.items()) add_token(token, id);
  }

  void add_token(const std::string& token, const Json& id) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(kMaxVocabulary)) {
      refuse(fmt::format("the id of '{}' is not a number below {}", token, kMaxVocabulary));
    }
    const auto [found, added] = ids_.emplace(token, id.get<uint32_t>());
    if (!added && found->second != id.get<uint32_t>()) refuse(fmt::format("'{}' has two ids", token));
  }

  void add_merge(std::string_view left, std::string_view right) {
    merges_.emplace_back(std::string(left), std::string(right));
  }

  BpeVocabulary build() {
    place_tokens();
    find_bytes();
    place_merges();
    find_specials();
    return std::move(vocabulary_);
  }

  [[noreturn]] void refuse(const std::string& why) const { fail(ErrorKind::data, "{}: {}", name_, why); }

 private:
  void place_tokens() {
    texts_.resize(ids_.size());
    used_.assign(ids_.size(), false);
    std::vector<bool> seen(ids_.size(), false);
    for (const auto& [token, id] : ids_) {
      if (id >= texts_.size())
        refuse(fmt::format("id {} of '{}' leaves a gap: there are {} tokens", id, token, texts_.size()));
      if (seen[id]) refuse(fmt::format("id {} is given twice ('{}', '{}')", id, texts_[id], token));
      seen[id] = true;
      texts_[id] = token;
    }
  }

  uint32_t id_of(const std::string& token, const char* role) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) refuse(fmt::format("{} '{}' is not in the vocabulary", role, token));
    return found->second;
  }

  void find_bytes() {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t id = id_of(characters_.to_text(std::string(1, static_cast<char>(byte))), "the byte");
      vocabulary_.byte_ids[byte] = id;
      used_[id] = true;
    }
  }

  // Unique products made of earlier tokens: then a merge never makes a pair of lower rank, and any order of merging
  // equal ranks from the left gives the same ids.
  void place_merges() {
    for (const auto& [left, right] : merges_) {
      const uint32_t a = id_of(left, "the part"), b = id_of(right, "the part");
      const uint32_t product = id_of(left + right, "the merged token");
      if (!used_[a] || !used_[b]) refuse(fmt::format("the merge '{} {}' comes before its parts", left, right));
      if (used_[product]) refuse(fmt::format("the merge '{} {}' makes a token that exists already", left, right));
      used_[product] = true;
      vocabulary_.merges.emplace_back(a, b);
      vocabulary_.products.push_back(product);
    }
  }

  void find_specials() {
    for (uint32_t id = 0; id < texts_.size(); ++id) {
      if (used_[id]) {
        const auto bytes = characters_.to_bytes(texts_[id]);
        if (!bytes) refuse(fmt::format("token '{}' is not written in byte characters", texts_[id]));
        vocabulary_.tokens.push_back(*bytes);
      } else {
        vocabulary_.tokens.push_back(texts_[id]);
        vocabulary_.specials.push_back(id);
      }
    }
  }

  std::string name_;
  ByteCharacters characters_;
  Ids ids_;
  std::vector<std::string> texts_;  // by id, in byte characters
  std::vector<bool> used_;          // bytes and products
  std::vector<std::pair<std::string, std::string>> merges_;
  BpeVocabulary vocabulary_;
};

void add_merge_line(VocabularyBuilder& builder, std::string_view line) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    builder.refuse(fmt::format("the merge '{}' is not two tokens", line.substr(0, 80)));
  }
  builder.add_merge(line.substr(0, space), line.substr(space + 1));
}

void add_merge_lines(VocabularyBuilder& builder, std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && !line.starts_with("#version")) add_merge_line(builder, line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void check_model(VocabularyBuilder& builder, const Json& root) {
  const auto type_of = [&](const char* part) {
    return root.contains(part) && root[part].is_object() ? root[part].value("type", std::string()) : std::string();
  };
  if (!root.contains("model") || !root["model"].is_object() || !root["model"].contains("vocab") ||
      !root["model"].contains("merges") || type_of("model") != "BPE") {
    builder.refuse("no BPE model with vocab and merges");
  }
  if (root.contains("normalizer") && !root["normalizer"].is_null())
    builder.refuse("has a normalizer; none is supported");
  if (type_of("pre_tokenizer") != "ByteLevel") builder.refuse("the pre-tokenizer is not ByteLevel");
  const Json& cut = root["pre_tokenizer"];
  if (cut.value("add_prefix_space", false)) builder.refuse("adds a space before the text, which is not supported");
  if (!cut.value("use_regex", true)) builder.refuse("does not use the GPT-2 pattern, which is needed");
  if (!root["model"]["merges"].is_array()) builder.refuse("the merges are not a list");
}

void add_json_merge(VocabularyBuilder& builder, const Json& merge) {
  if (merge.is_string()) return add_merge_line(builder, merge.get<std::string>());
  if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
    builder.refuse("a merge is neither \"a b\" nor [\"a\", \"b\"]");
  }
  builder.add_merge(merge[0].get<std::string>(), merge[1].get<std::string>());
}

bool is_special(const BpeVocabulary& vocabulary, uint32_t id) {
  return std::binary_search(vocabulary.specials.begin(), vocabulary.specials.end(), id);
}

Json vocab_table(const BpeVocabulary& vocabulary) {
  const ByteCharacters characters;
  Json table = Json::object();
  for (uint32_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& token = vocabulary.tokens[id];
    const std::string name = is_special(vocabulary, id) ? token : characters.to_text(token);
    if (table.contains(name)) fail(ErrorKind::internal, "two ids of the vocabulary stand for '{}'", name);
    table[name] = id;
  }
  return table;
}

std::vector<std::string> merge_lines(const BpeVocabulary& vocabulary) {
  const ByteCharacters characters;
  std::vector<std::string> lines;
  for (const auto& [left, right] : vocabulary.merges) {
    lines.push_back(characters.to_text(vocabulary.tokens[left]) + " " + characters.to_text(vocabulary.tokens[right]));
  }
  return lines;
}

}  // namespace

int64_t BpeVocabulary::end_of_text() const {
  for (const uint32_t id : specials) {
    if (tokens[id] == kEndOfText) return id;
  }
  return -1;
}

BpeVocabulary make_vocabulary(const std::vector<std::pair<uint32_t, uint32_t>>& merges) {
  BpeVocabulary vocabulary;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
    vocabulary.byte_ids[byte] = byte;
  }
  for (const auto& [left, right] : merges) {
    vocabulary.products.push_back(static_cast<uint32_t>(vocabulary.tokens.size()));
    vocabulary.tokens.push_back(vocabulary.tokens.at(left) + vocabulary.tokens.at(right));
  }
  vocabulary.merges = merges;
  vocabulary.specials.push_back(static_cast<uint32_t>(vocabulary.tokens.size()));
  vocabulary.tokens.emplace_back(kEndOfText);
  return vocabulary;
}

BpeVocabulary load_gpt2_vocabulary(const std::string& folder) {
  const std::string encoder = folder + "/encoder.json", merges = folder + "/vocab.bpe";
  VocabularyBuilder builder(encoder);
  builder.add_tokens(parse_json(read_whole(encoder, kMaxTokenizerJson), encoder));
  add_merge_lines(builder, read_whole(merges, kMaxTokenizerJson));
  return builder.build();
}

BpeVocabulary parse_tokenizer_json(const std::string& text, const std::string& name) {
  if (static_cast<int64_t>(text.size()) > kMaxTokenizerJson) fail(ErrorKind::data, "{}: more than 64 MiB", name);
  VocabularyBuilder builder(name);
  const Json root = parse_json(text, name);
  if (!root.is_object()) builder.refuse("not a tokenizer: no JSON object");
  try {
    check_model(builder, root);
    builder.add_tokens(root["model"]["vocab"]);
    for (const Json& merge : root["model"]["merges"]) add_json_merge(builder, merge);
    if (root.contains("added_tokens")) {
      for (const Json& token : root["added_tokens"])
        builder.add_token(token.at("content").get<std::string>(), token.at("id"));
    }
  } catch (const nlohmann::json::exception& error) {
    builder.refuse(fmt::format("unexpected form: {}", std::string(error.what()).substr(0, 200)));
  }
  return builder.build();
}

std::string to_tokenizer_json(const BpeVocabulary& vocabulary) {
  Json added = Json::array();
  for (const uint32_t id : vocabulary.specials) {
    added.push_back({{"id", id},
                     {"content", vocabulary.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const Json root = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level},
                     {"post_processor", nullptr},
                     {"decoder", byte_level},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"vocab", vocab_table(vocabulary)},
                       {"merges", merge_lines(vocabulary)}}}};
  return root.dump();
}

std::string to_vocab_json(const BpeVocabulary& vocabulary) { return vocab_table(vocabulary).dump(); }

std::string to_merges_text(const BpeVocabulary& vocabulary) {
  std::string text = "#version: 0.2\n";
  for (const std::string& line : merge_lines(vocabulary)) text += line + "\n";
  return text;
}

}  // namespace farsight
