// SPDX-License-Identifier: Apache-2.0
// Records of a comma-separated file (RFC 4180) one after the other, with the places that messages name. Memory: one
// record and a buffer. What other programs write is understood: a byte-order mark, LF or CRLF, no end of the last line,
// blanks around cells, quotes that hold delimiters, line ends and doubled quotes, .gz and .zst by name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/text_source.h"

namespace farsight {

inline constexpr int64_t kLongestCsvRecord = 64 << 20;  // bytes
inline constexpr size_t kMostCsvColumns = 65'536;

class CsvReader {
 public:
  // '\0': the delimiter is found out among comma, semicolon and tab from the first lines (`decimal`: the mark of
  // numbers). Error{data} when it cannot be, and for a file that is no text.
  CsvReader(const std::string& path, char delimiter, char decimal = '.');

  // Goes to the next record: false at the end. Error{data} with line and column for quotes that are not closed or have
  // text behind them, CR as line end, NUL bytes, and for records beyond the limits above.
  bool next();

  size_t columns() const { return fields_.size(); }
  // Cell `i` of this record, valid until next(): without blanks around it, unless they are in quotes.
  std::string_view cell(size_t i) const;
  bool blank() const { return fields_.size() == 1 && !fields_[0].quoted && cell(0).empty(); }
  int64_t line() const { return line_; }  // of the beginning of the record, from 1
  int64_t line_of(size_t i) const;        // of the beginning of the cell, which differs where quotes hold line ends
  std::string at(size_t i) const;         // "load.csv:733:5": file, line, number of the column from 1
  const std::string& name() const { return name_; }
  char delimiter() const { return delimiter_; }
  std::string sha256() { return source_->sha256(); }  // of the file, at its end

 private:
  struct Field {
    size_t begin = 0, end = 0;  // in buffer_
    bool quoted = false, doubled = false;
  };
  enum class Scan : uint8_t { done, short_of_data };

  void begin_file(char decimal);
  bool refill(size_t bytes);
  Scan scan_record();
  Scan scan_cell(size_t& at, Field& field) const;
  Scan scan_plain(size_t& at, Field& field) const;
  Scan scan_quoted(size_t& at, Field& field) const;
  bool is_blank(char c) const { return (c == ' ' || c == '\t') && c != delimiter_; }
  void halve_quotes(Field& field);
  int64_t line_at(size_t at) const;
  [[noreturn]] void fail_at(size_t at, std::string_view what) const;

  std::string name_;
  std::unique_ptr<TextSource> source_;
  char delimiter_;
  std::string buffer_;
  size_t begin_ = 0, next_ = 0;  // the record, and what follows it
  bool ended_ = false;           // there is nothing behind the buffer
  int64_t offset_ = 0;           // of the end of the buffer in the text
  int64_t line_ = 1;
  std::vector<Field> fields_;
};

}  // namespace farsight
