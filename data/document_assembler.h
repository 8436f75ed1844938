// SPDX-License-Identifier: Apache-2.0
// Gathers documents into items of about one MiB that can be tokenised independently: many small documents in one, a
// large document over several, cut where the tokeniser would cut anyway.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/document_splitter.h"
#include "data/problems.h"
#include "data/split_rule.h"

namespace farsight {

// A piece of one document inside TextItem::text.
struct TextSegment {
  size_t begin = 0, end = 0;
  bool starts = false;     // first piece of the document (or of its part in a split)
  bool closes = false;     // last piece: the document's record is complete
  bool ends_text = false;  // last piece of the document itself: an end-of-document id follows
  int split = 0;           // when closes
  int64_t bytes = 0;       // of the document, when closes
  int32_t source = 0;
};

struct TextItem {
  std::string text;
  std::vector<TextSegment> segments;
};

struct AssemblerRules {
  const SplitFractions* fractions = nullptr;
  SplitBy by = SplitBy::document;
  std::vector<int64_t> cuts;  // by position: ends of all splits but the last, in bytes of document text
  bool skip_empty = false;
};

class DocumentAssembler : public DocumentSink {
 public:
  using Emit = std::function<void(TextItem)>;
  // Length of the largest beginning of a text that may be tokenised alone, see Tokenizer::safe_prefix.
  using SafePrefix = std::function<size_t(std::string_view)>;
  DocumentAssembler(AssemblerRules rules, SafePrefix safe_prefix, Problems& problems, Emit emit);
  ~DocumentAssembler() override;

  void begin_input(std::string name, int32_t source);
  void text(std::string_view piece) override;
  void end_document(const std::string& place) override;
  void finish();  // emits the rest

  int64_t documents() const { return documents_; }
  int64_t skipped() const { return skipped_; }

 private:
  void append(std::string_view piece);
  void close_segment(bool ends_text);
  void flush_if_large();
  void emit();

  AssemblerRules rules_;
  SafePrefix safe_prefix_;
  Problems& problems_;
  Emit emit_;
  struct Hash;
  std::unique_ptr<Hash> hash_;
  std::string name_;
  int32_t source_ = 0;
  TextItem item_;
  size_t segment_begin_ = 0;  // of the open document in item_.text
  bool starts_ = true;        // the open segment is the first of its document
  int64_t part_bytes_ = 0;    // of the open document within its split
  int64_t document_bytes_ = 0;
  int64_t position_ = 0;  // bytes of document text so far
  size_t next_cut_ = 0;
  size_t retry_size_ = 0;
  int64_t documents_ = 0, skipped_ = 0;
};

}  // namespace farsight
