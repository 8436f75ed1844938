// SPDX-License-Identifier: Apache-2.0
// Token streams on their way to a file: documents in input order, each with the split it belongs to, in two unnamed
// temporary files. A contiguous dataset needs its length before its first element, and the split of a document may be
// known only at its end; memory stays constant whatever the corpus.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/file.h"

namespace farsight {

struct SpoolDocument {
  int64_t tokens = 0;
  int64_t bytes = 0;   // of text
  int32_t source = 0;  // number of the input file
  int32_t split = 0;
};

struct SpoolTotals {
  int64_t tokens = 0, documents = 0, bytes = 0;
};

class TokenSpool {
 public:
  // Token ids of `width` bytes (2 or 4); the files lie in `folder` and vanish with this object.
  TokenSpool(const std::string& folder, int width, int splits);

  int width() const { return width_; }
  void append(const void* tokens, int64_t count);
  // Ends the document made of everything appended since the last call. Empty documents are the caller's to refuse.
  void end_document(int split, int64_t bytes, int source);
  const std::vector<SpoolTotals>& totals() const { return totals_; }

  // Calls visit(document) for every document of the split in order.
  void each_document(int split, const std::function<void(const SpoolDocument&)>& visit);
  // Calls visit(tokens, count) for consecutive pieces of the split's token stream.
  void each_piece(int split, const std::function<void(const void*, int64_t)>& visit);

 private:
  void flush();
  void flush_records();
  void visit_range(int64_t first, int64_t count, const std::function<void(const void*, int64_t)>& visit);

  File tokens_, records_;
  int width_;
  std::string pending_;
  std::vector<SpoolDocument> pending_records_;
  std::vector<SpoolTotals> totals_;
  int64_t written_ = 0, ended_ = 0, documents_ = 0;
};

}  // namespace farsight
