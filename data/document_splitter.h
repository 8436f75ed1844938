// SPDX-License-Identifier: Apache-2.0
// Cuts the text of an input into documents, in pieces of any size.
//   file        the whole input
//   line        every line, without its line end
//   blank-line  every run of lines that are not blank, joined by line feeds
//   separator   what lies between two occurrences of a string
//   jsonl       a string field of the JSON object on every line (json_lines.h)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace farsight {

class DocumentSink {
 public:
  virtual ~DocumentSink() = default;
  virtual void text(std::string_view piece) = 0;
  // The document is everything since the last call, possibly nothing; `place` is where it begins ("line 7").
  virtual void end_document(const std::string& place) = 0;
};

class DocumentSplitter {
 public:
  virtual ~DocumentSplitter() = default;
  virtual void feed(std::string_view text) = 0;
  virtual void finish() = 0;  // end of the input
};

enum class DocumentMode : uint8_t { file, line, blank_line, separator };

// `separator` is used by DocumentMode::separator only and must not be empty there.
std::unique_ptr<DocumentSplitter> make_document_splitter(DocumentMode mode, const std::string& separator,
                                                         DocumentSink& sink);

}  // namespace farsight
