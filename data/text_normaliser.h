// SPDX-License-Identifier: Apache-2.0
// Bytes of a text file to the text that is tokenised: byte-order mark removed, CRLF to LF, encoding checked. Works on
// pieces of any size; what it changed is recorded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/problems.h"

namespace farsight {

enum class InvalidUtf8 : uint8_t { accept, error, replace };

struct TextRules {
  bool raw = false;  // keep every byte
  InvalidUtf8 invalid_utf8 = InvalidUtf8::error;
};

// What normalisation did, over any number of files.
struct TextChanges {
  bool bom = false, crlf = false, replaced = false;
  std::string names() const;  // "bom,crlf"
};

class TextNormaliser {
 public:
  TextNormaliser(std::string name, const TextRules& rules, Problems& problems, TextChanges& changes)
      : name_(std::move(name)), rules_(rules), problems_(problems), changes_(changes) {}

  // Appends the normalised text of `piece` to `out`; a few bytes may wait for the next piece. Text in another encoding
  // or compressed data is Error{data} at once; other problems are collected.
  void feed(std::string_view piece, std::string& out);
  void finish(std::string& out);

 private:
  void check_beginning();
  void check_nul();
  void process(bool last, std::string& out);
  size_t check_characters(size_t begin, bool last, std::string& out);
  void append_lines(std::string_view text, std::string& out);
  void report_invalid(size_t at);

  std::string name_;
  TextRules rules_;
  Problems& problems_;
  TextChanges& changes_;
  std::string pending_;   // bytes not yet processed
  int64_t offset_ = 0;    // of pending_ in the file
  bool begun_ = false;    // the beginning was checked
  bool held_cr_ = false;  // a CR whose successor is not known yet
};

}  // namespace farsight
