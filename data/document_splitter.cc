// SPDX-License-Identifier: Apache-2.0
#include "data/document_splitter.h"

#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

std::string line_place(int64_t line) { return "line " + with_commas(line); }

class WholeInput : public DocumentSplitter {
 public:
  explicit WholeInput(DocumentSink& sink) : sink_(sink) {}
  void feed(std::string_view text) override { sink_.text(text); }
  void finish() override { sink_.end_document("the file"); }

 private:
  DocumentSink& sink_;
};

class Lines : public DocumentSplitter {
 public:
  explicit Lines(DocumentSink& sink) : sink_(sink) {}

  void feed(std::string_view text) override {
    while (!text.empty()) {
      const size_t end = text.find('\n');
      sink_.text(text.substr(0, end));
      open_ = end == std::string_view::npos;
      if (open_) return;
      sink_.end_document(line_place(line_++));
      text.remove_prefix(end + 1);
    }
  }
  void finish() override {
    if (open_) sink_.end_document(line_place(line_));
  }

 private:
  DocumentSink& sink_;
  int64_t line_ = 1;
  bool open_ = false;  // the last line has no end yet
};

class BlankLines : public DocumentSplitter {
 public:
  explicit BlankLines(DocumentSink& sink) : sink_(sink) {}

  void feed(std::string_view text) override {
    while (!text.empty()) {
      const size_t end = text.find('\n');
      part_of_line(text.substr(0, end));
      if (end == std::string_view::npos) return;
      end_line();
      text.remove_prefix(end + 1);
    }
  }
  void finish() override {
    if (in_document_) sink_.end_document(line_place(first_line_));
  }

 private:
  // Blanks wait until the line turns out to hold something else.
  void part_of_line(std::string_view part) {
    if (!written_ && part.find_first_not_of(" \t\r") == std::string_view::npos) {
      blanks_.append(part);
      return;
    }
    if (!written_) begin_line();
    sink_.text(part);
  }
  void begin_line() {
    if (in_document_) {
      sink_.text("\n");
    } else {
      first_line_ = line_;
    }
    sink_.text(blanks_);
    in_document_ = written_ = true;
  }
  void end_line() {
    if (!written_ && in_document_) {
      sink_.end_document(line_place(first_line_));
      in_document_ = false;
    }
    written_ = false;
    blanks_.clear();
    ++line_;
  }

  DocumentSink& sink_;
  std::string blanks_;
  int64_t line_ = 1, first_line_ = 1;
  bool written_ = false;  // something of this line is in the document
  bool in_document_ = false;
};

class Separated : public DocumentSplitter {
 public:
  Separated(std::string separator, DocumentSink& sink) : separator_(std::move(separator)), sink_(sink) {}

  void feed(std::string_view text) override {
    pending_.append(text);
    size_t begin = 0;
    for (size_t at; (at = pending_.find(separator_, begin)) != std::string::npos; begin = at + separator_.size()) {
      sink_.text(std::string_view(pending_).substr(begin, at - begin));
      sink_.end_document(place());
      open_ = false;
    }
    // The separator may have begun: keep one byte less than it.
    const size_t keep = std::min(separator_.size() - 1, pending_.size() - begin);
    emit(std::string_view(pending_).substr(begin, pending_.size() - begin - keep));
    pending_.erase(0, pending_.size() - keep);
  }
  void finish() override {
    emit(pending_);
    if (open_) sink_.end_document(place());
  }

 private:
  void emit(std::string_view text) {
    if (text.empty()) return;
    sink_.text(text);
    open_ = true;
  }
  std::string place() { return "document " + with_commas(++number_); }

  std::string separator_;
  DocumentSink& sink_;
  std::string pending_;
  int64_t number_ = 0;
  bool open_ = false;  // text was given out since the last separator
};

}  // namespace

std::unique_ptr<DocumentSplitter> make_document_splitter(DocumentMode mode, const std::string& separator,
                                                         DocumentSink& sink) {
  switch (mode) {
    case DocumentMode::file:
      return std::make_unique<WholeInput>(sink);
    case DocumentMode::line:
      return std::make_unique<Lines>(sink);
    case DocumentMode::blank_line:
      return std::make_unique<BlankLines>(sink);
    case DocumentMode::separator:
      break;
  }
  if (separator.empty()) fail(ErrorKind::usage, "--document=separator:S needs a separator");
  return std::make_unique<Separated>(separator, sink);
}

}  // namespace farsight
