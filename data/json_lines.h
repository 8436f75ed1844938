// SPDX-License-Identifier: Apache-2.0
// JSONL: one JSON object per line; a string field of it is a document. Blank lines are skipped. Lines up to 64 MiB,
// nesting up to 64.
#pragma once

#include <memory>
#include <string>

#include "data/document_splitter.h"
#include "data/problems.h"
#include "data/text_normaliser.h"

namespace farsight {

// CRLF inside the strings becomes LF unless keep_crlf. Broken lines and lines without the field are collected in
// `problems` as "NAME:LINE:COLUMN: ...".
std::unique_ptr<DocumentSplitter> make_json_lines_splitter(std::string name, std::string field, bool keep_crlf,
                                                           Problems& problems, TextChanges& changes,
                                                           DocumentSink& sink);

}  // namespace farsight
