// SPDX-License-Identifier: Apache-2.0
#include "data/json_lines.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kMaxLine = size_t{64} << 20;
constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxWords = 160;

// Takes one string out of an object without building a tree of it.
class FieldFinder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit FieldFinder(const std::string& field) : field_(field) {}

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool string(string_t& text) override {
    if (wanted()) found = std::move(text);
    return value("a string");
  }
  bool binary(binary_t&) override { return value("binary data"); }
  bool start_object(std::size_t) override {
    is_object = is_object || depth_ == 0;
    return enter("an object");
  }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter("an array"); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    if (depth_ == 1) {
      at_field_ = name == field_;
      keys.push_back(name);
    }
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    column = position;
    const std::string_view words = error.what();
    const size_t dash = words.find(" - ");
    reason = std::string(words.substr(dash == std::string_view::npos ? 0 : dash + 3)).substr(0, kMaxWords);
    return false;
  }

  std::optional<std::string> found;
  std::string other_type;  // of the field, when it is not a string
  std::vector<std::string> keys;
  std::string reason;
  size_t column = 0;
  bool is_object = false;

 private:
  bool wanted() const { return depth_ == 1 && at_field_ && is_object; }
  bool value(const char* type) {
    if (wanted() && std::string_view(type) != "a string") other_type = type;
    return true;
  }
  bool enter(const char* type) {
    value(type);
    if (++depth_ <= kMaxDepth) return true;
    reason = fmt::format("more than {} levels of nesting", kMaxDepth);
    return false;
  }
  bool leave() {
    --depth_;
    return true;
  }

  const std::string& field_;
  size_t depth_ = 0;
  bool at_field_ = false;
};

std::string list_keys(std::vector<std::string> keys) {
  constexpr size_t kListed = 10;
  std::sort(keys.begin(), keys.end());
  std::string text;
  for (size_t i = 0; i < std::min(keys.size(), kListed); ++i)
    text += fmt::format("{}{}", i > 0 ? ", " : "", keys[i].substr(0, 40));
  return text.empty() ? "none" : text + (keys.size() > kListed ? ", ..." : "");
}

// CRLF to LF inside a string, in place; whether there was any.
bool unify_line_ends(std::string& text) {
  size_t to = 0;
  for (size_t from = 0; from < text.size(); ++from) {
    if (text[from] == '\r' && from + 1 < text.size() && text[from + 1] == '\n') continue;
    text[to++] = text[from];
  }
  const bool changed = to != text.size();
  text.resize(to);
  return changed;
}

class JsonLines : public DocumentSplitter {
 public:
  JsonLines(std::string name, std::string field, bool keep_crlf, Problems& problems, TextChanges& changes,
            DocumentSink& sink)
      : name_(std::move(name)),
        field_(std::move(field)),
        keep_crlf_(keep_crlf),
        problems_(problems),
        changes_(changes),
        sink_(sink) {}

  void feed(std::string_view text) override {
    while (!text.empty()) {
      const size_t end = text.find('\n');
      pending_.append(text.substr(0, end));
      if (pending_.size() > kMaxLine) {
        fail(ErrorKind::data, "{}:{}: a line of more than 64 MiB; is it JSON with one object per line?", name_,
             number_);
      }
      if (end == std::string_view::npos) return;
      line();
      text.remove_prefix(end + 1);
    }
  }
  void finish() override { line(); }

 private:
  void line() {
    if (pending_.find_first_not_of(" \t\r") != std::string::npos) parse();
    pending_.clear();
    ++number_;
  }

  void parse() {
    FieldFinder finder(field_);
    const bool parsed = nlohmann::json::sax_parse(pending_, &finder);
    if (!parsed) {
      return problems_.add("broken JSON lines",
                           fmt::format("{}:{}:{}: {}", name_, number_, finder.column, finder.reason));
    }
    if (!finder.is_object) {
      return problems_.add("JSON lines without an object", fmt::format("{}:{}: not a JSON object", name_, number_));
    }
    if (!finder.found && !finder.other_type.empty()) {
      return problems_.add("fields of another type", fmt::format("{}:{}: field '{}' is {}, not a string", name_,
                                                                 number_, field_, finder.other_type));
    }
    if (!finder.found) {
      return problems_.add("missing fields", fmt::format("{}:{}: no field '{}' (has: {})", name_, number_, field_,
                                                         list_keys(std::move(finder.keys))));
    }
    if (!keep_crlf_ && unify_line_ends(*finder.found)) changes_.crlf = true;
    sink_.text(*finder.found);
    sink_.end_document("line " + with_commas(number_));
  }

  std::string name_, field_;
  bool keep_crlf_;
  Problems& problems_;
  TextChanges& changes_;
  DocumentSink& sink_;
  std::string pending_;
  int64_t number_ = 1;
};

}  // namespace

std::unique_ptr<DocumentSplitter> make_json_lines_splitter(std::string name, std::string field, bool keep_crlf,
                                                           Problems& problems, TextChanges& changes,
                                                           DocumentSink& sink) {
  return std::make_unique<JsonLines>(std::move(name), std::move(field), keep_crlf, problems, changes, sink);
}

}  // namespace farsight
