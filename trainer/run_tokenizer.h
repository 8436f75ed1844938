// SPDX-License-Identifier: Apache-2.0
// tokenizer.json of a run directory: the tokeniser the model was trained with, so that text can be generated and
// evaluated where the training data are not.
#pragma once

#include <string>

#include "data/corpus.h"
#include "trainer/file_system.h"

namespace farsight {

void save_tokenizer(FileSystem& files, const std::string& run_directory, const TokenizerInfo& info);
// Error{data} when it is missing or not what save_tokenizer writes.
TokenizerInfo load_tokenizer(FileSystem& files, const std::string& run_directory);

}  // namespace farsight
