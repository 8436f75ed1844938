// SPDX-License-Identifier: Apache-2.0
#include "data/csv_reader.h"

#include <algorithm>

#include "data/csv_delimiter.h"
#include "data/text_encoding.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kReadBytes = 1 << 18;

}  // namespace

CsvReader::CsvReader(const std::string& path, char delimiter, char decimal)
    : name_(path), source_(open_text_source(path, /*hash=*/true)), delimiter_(delimiter) {
  begin_file(decimal);
}

void CsvReader::begin_file(char decimal) {
  while (buffer_.size() < kReadBytes && refill(kReadBytes)) {
  }
  refuse_foreign_text(name_, buffer_);
  refuse_nul(name_, buffer_, 0, "");
  if (buffer_.starts_with(kByteOrderMark)) next_ = kByteOrderMark.size();
  if (delimiter_ == '\0')
    delimiter_ = find_csv_delimiter(name_, std::string_view(buffer_).substr(next_), ended_, decimal);
}

bool CsvReader::refill(size_t bytes) {
  if (ended_) return false;
  const size_t before = buffer_.size();
  buffer_.resize(before + bytes);
  const size_t got = source_->read(buffer_.data() + before, bytes);
  buffer_.resize(before + got);
  ended_ = got == 0;
  // The first bytes are examined as a whole, by begin_file.
  if (offset_ >= static_cast<int64_t>(kReadBytes)) {
    refuse_nul(name_, std::string_view(buffer_).substr(before), offset_, "");
  }
  offset_ += static_cast<int64_t>(got);
  return !ended_;
}

bool CsvReader::next() {
  line_ += std::count(buffer_.begin() + static_cast<ptrdiff_t>(begin_), buffer_.begin() + static_cast<ptrdiff_t>(next_),
                      '\n');
  begin_ = next_;
  while (scan_record() == Scan::short_of_data) {
    buffer_.erase(0, begin_);
    begin_ = next_ = 0;
    if (buffer_.size() > static_cast<size_t>(kLongestCsvRecord)) {
      fail(ErrorKind::data, "{}:{}: a record of more than {} MiB; is a quote not closed?", name_, line_,
           kLongestCsvRecord >> 20);
    }
    // The record is scanned again from its beginning: doubling keeps that linear.
    refill(std::max(kReadBytes, buffer_.size()));
  }
  if (begin_ == buffer_.size()) return false;
  for (Field& field : fields_) {
    if (field.doubled) halve_quotes(field);
  }
  return true;
}

CsvReader::Scan CsvReader::scan_record() {
  fields_.clear();
  for (size_t at = begin_;; ++at) {
    Field field;
    if (scan_cell(at, field) == Scan::short_of_data) return Scan::short_of_data;
    if (fields_.size() == kMostCsvColumns) fail_at(at, fmt::format("more than {} columns", kMostCsvColumns));
    fields_.push_back(field);
    if (at < buffer_.size() && buffer_[at] == delimiter_) continue;
    if (at < buffer_.size() && buffer_[at] == '\r') ++at;
    next_ = std::min(at + 1, buffer_.size());
    return Scan::done;
  }
}

// A cell from `at` on; `at` becomes the place of the delimiter or the line end behind it.
CsvReader::Scan CsvReader::scan_cell(size_t& at, Field& field) const {
  while (at < buffer_.size() && is_blank(buffer_[at])) ++at;
  const bool quoted = at < buffer_.size() && buffer_[at] == '"';
  const Scan scan = quoted ? scan_quoted(at, field) : scan_plain(at, field);
  if (scan == Scan::short_of_data) return scan;
  if (at == buffer_.size()) return ended_ ? Scan::done : Scan::short_of_data;
  if (buffer_[at] != '\r') return Scan::done;
  if (at + 1 == buffer_.size()) return ended_ ? Scan::done : Scan::short_of_data;
  if (buffer_[at + 1] != '\n') fail_at(at, "a carriage return inside the line; convert it: tr '\\r' '\\n' < OLD > NEW");
  return Scan::done;
}

CsvReader::Scan CsvReader::scan_plain(size_t& at, Field& field) const {
  field.begin = at;
  while (at < buffer_.size() && buffer_[at] != delimiter_ && buffer_[at] != '\n' && buffer_[at] != '\r') ++at;
  field.end = at;
  while (field.end > field.begin && is_blank(buffer_[field.end - 1])) --field.end;
  return Scan::done;
}

CsvReader::Scan CsvReader::scan_quoted(size_t& at, Field& field) const {
  const size_t open = at;
  field.quoted = true;
  field.begin = ++at;
  while (true) {
    at = buffer_.find('"', at);
    if (at == std::string::npos) {
      if (ended_) fail_at(open, "the quote that begins here is not closed");
      return Scan::short_of_data;
    }
    if (at + 1 == buffer_.size() && !ended_) return Scan::short_of_data;
    if (at + 1 == buffer_.size() || buffer_[at + 1] != '"') break;
    field.doubled = true;
    at += 2;
  }
  field.end = at++;
  while (at < buffer_.size() && is_blank(buffer_[at])) ++at;
  const char c = at < buffer_.size() ? buffer_[at] : '\n';
  if (c != delimiter_ && c != '\n' && c != '\r') {
    fail_at(at, "text behind a closing quote; a quote inside quotes is written twice");
  }
  return Scan::done;
}

// "" becomes ". What the shorter text leaves behind is no line end: lines are counted in the buffer.
void CsvReader::halve_quotes(Field& field) {
  size_t to = field.begin;
  for (size_t from = field.begin; from < field.end; ++from) {
    buffer_[to++] = buffer_[from];
    if (buffer_[from] == '"') ++from;
  }
  std::fill(buffer_.begin() + static_cast<ptrdiff_t>(to), buffer_.begin() + static_cast<ptrdiff_t>(field.end), '"');
  field.end = to;
}

std::string_view CsvReader::cell(size_t i) const {
  return std::string_view(buffer_).substr(fields_[i].begin, fields_[i].end - fields_[i].begin);
}

int64_t CsvReader::line_at(size_t at) const {
  return line_ + std::count(buffer_.begin() + static_cast<ptrdiff_t>(begin_),
                            buffer_.begin() + static_cast<ptrdiff_t>(at), '\n');
}

int64_t CsvReader::line_of(size_t i) const { return line_at(fields_[i].begin); }

std::string CsvReader::at(size_t i) const { return fmt::format("{}:{}:{}", name_, line_of(i), i + 1); }

void CsvReader::fail_at(size_t at, std::string_view what) const {
  fail(ErrorKind::data, "{}:{}:{}: {}", name_, line_at(at), fields_.size() + 1, what);
}

}  // namespace farsight
