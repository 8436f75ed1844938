// SPDX-License-Identifier: Apache-2.0
// The folder of a run: what was asked, what ran it, and where everything else goes.
//   config.toml (effective)  config.input.toml (as given)  environment.json  command.txt  log.txt  tokenizer.json
//   metrics.jsonl  metrics.csv  checkpoints/  samples/  hang/  exit.json
#pragma once

#include <string>
#include <vector>

#include "trainer/config.h"

namespace farsight {

// Creates the folder and writes the descriptive files. Rank 0 only, once it holds the lock. Error{io}.
void describe_run(const Config& config, const std::vector<std::string>& command_line, const std::string& layout,
                  int ranks);

// A RUN argument: the run's directory, or one of its checkpoints (".../checkpoints/step-00000500").
struct RunReference {
  std::string directory;   // of the run
  std::string checkpoint;  // path of the checkpoint that was named; empty: the newest good one
};
// Error{data} when there is no run there, saying what was looked for.
RunReference find_run(const std::string& path);
// The configuration the run was started with. Error{data}, Error{config}.
Config run_config(const RunReference& run);

}  // namespace farsight
