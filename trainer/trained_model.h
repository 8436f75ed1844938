// SPDX-License-Identifier: Apache-2.0
// A trained model taken from a run, for evaluation and generation. Nothing in the run directory is changed.
#pragma once

#include <memory>
#include <string>

#include "data/corpus.h"
#include "trainer/config.h"
#include "trainer/model.h"
#include "trainer/run_directory.h"

namespace farsight {

struct TrainedModel {
  Config config;  // of the run
  TokenizerInfo tokenizer;
  std::unique_ptr<LanguageModel> model;
  std::string checkpoint;  // path of what was loaded
  int64_t step = 0;
  std::vector<std::string> notes;  // damaged checkpoints that were passed over
};

// The newest good checkpoint of the run, or exactly the one that was named, on the device of this thread. Not
// collective; every rank reads for itself. Error{data} when there is none, or the named one is damaged; the message
// says which and why.
TrainedModel load_trained_model(const RunReference& run, const Config& config);

}  // namespace farsight
