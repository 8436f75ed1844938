// SPDX-License-Identifier: Apache-2.0
#include "data/text_normaliser.h"

#include "data/file.h"
#include "data/text_encoding.h"
#include "data/utf8.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

std::string TextChanges::names() const {
  std::string text;
  const auto add = [&text](bool on, const char* name) {
    if (on) text += fmt::format("{}{}", text.empty() ? "" : ",", name);
  };
  add(bom, "bom");
  add(crlf, "crlf");
  add(replaced, "utf8");
  return text;
}

void TextNormaliser::feed(std::string_view piece, std::string& out) {
  pending_.append(piece);
  if (!begun_ && pending_.size() < kLongestMark) return;
  process(/*last=*/false, out);
}

void TextNormaliser::finish(std::string& out) {
  process(/*last=*/true, out);
  if (held_cr_) out += '\r';
  held_cr_ = false;
}

void TextNormaliser::process(bool last, std::string& out) {
  if (!begun_) check_beginning();
  begun_ = true;
  if (!rules_.raw) check_nul();
  size_t done = pending_.size();
  if (rules_.invalid_utf8 == InvalidUtf8::accept) {
    append_lines(pending_, out);
  } else {
    done = check_characters(0, last, out);
  }
  pending_.erase(0, done);
  offset_ += static_cast<int64_t>(done);
}

void TextNormaliser::check_beginning() {
  if (rules_.raw) return;
  refuse_foreign_text(name_, pending_);
  if (pending_.starts_with(kByteOrderMark)) {
    pending_.erase(0, kByteOrderMark.size());
    offset_ += static_cast<int64_t>(kByteOrderMark.size());
    changes_.bom = true;
  }
}

void TextNormaliser::check_nul() { refuse_nul(name_, pending_, offset_, "; --raw keeps every byte"); }

// Returns how many bytes are done: all but an incomplete character at the end of a piece.
size_t TextNormaliser::check_characters(size_t begin, bool last, std::string& out) {
  while (true) {
    const std::string_view rest = std::string_view(pending_).substr(begin);
    const size_t valid = valid_utf8_prefix(rest);
    append_lines(rest.substr(0, valid), out);
    if (valid == rest.size()) return pending_.size();
    const Utf8Character bad = decode_character(rest.substr(valid));
    if (bad.incomplete && !last) return begin + valid;
    report_invalid(begin + valid);
    append_lines(kReplacement, out);
    begin += valid + bad.length;
  }
}

void TextNormaliser::report_invalid(size_t at) {
  if (rules_.invalid_utf8 == InvalidUtf8::replace) {
    changes_.replaced = true;
    return;
  }
  problems_.add(
      "invalid UTF-8",
      fmt::format("{}: byte {}: invalid UTF-8 (0x{:02X}); use --invalid-utf8=replace or --tokenizer=byte", name_,
                  with_commas(offset_ + static_cast<int64_t>(at)), static_cast<uint8_t>(pending_[at])));
}

void TextNormaliser::append_lines(std::string_view text, std::string& out) {
  if (rules_.raw) {
    out.append(text);
    return;
  }
  while (!text.empty()) {
    if (held_cr_) {
      if (text[0] == '\n') {
        changes_.crlf = true;
      } else {
        out += '\r';
      }
      held_cr_ = false;
    }
    const size_t at = text.find('\r');
    out.append(text.substr(0, at));
    if (at == std::string_view::npos) return;
    held_cr_ = true;
    text.remove_prefix(at + 1);
  }
}

}  // namespace farsight
