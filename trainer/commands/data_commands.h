// SPDX-License-Identifier: Apache-2.0
// The commands of `farsight data`, one function each: results to `out`, progress and warnings to `err`.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "data/text_corpus.h"

namespace farsight {

int run_data_text(const std::vector<std::string>& args, std::ostream& out, std::ostream& err);
int run_data_csv(const std::vector<std::string>& args, std::ostream& out, std::ostream& err);
int run_data_tokenizer(const std::vector<std::string>& args, std::ostream& out, std::ostream& err);
int run_data_inspect(const std::vector<std::string>& args, std::ostream& out, std::ostream& err);
int run_data_verify(const std::vector<std::string>& args, std::ostream& out, std::ostream& err);

// Bytes for a screen: what is not UTF-8 is shown as U+FFFD.
std::string show_bytes(const std::string& bytes);

}  // namespace farsight
