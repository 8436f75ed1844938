// SPDX-License-Identifier: Apache-2.0
// A training run from start or checkpoint to its end: `farsight train` without its command line.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "parallel/comm.h"
#include "trainer/checkpoint/load.h"
#include "trainer/config.h"
#include "trainer/dataset.h"

namespace farsight {

struct TrainRequest {
  Config config;
  ResumeRequest resume;
  DatasetFiles files;                     // of rank 0
  std::vector<std::string> command_line;  // for command.txt
  bool terminal = false;                  // progress bar
  std::string device;                     // where the ranks compute, in words, for the log
  double ceiling_flops = 0.0;             // peak of all ranks together; 0 = not known
};

struct TrainOutcome {
  int exit_code = 0;        // 0 finished, 85 stopped with a checkpoint saved, 143 terminated without
  int64_t step = 0;         // optimizer steps done
  double train_loss = 0.0;  // of the last step
  double valid_loss = 0.0;  // of the last evaluation, 0 without one
};

// On the device of the calling thread. Collective over `world`; out is used on rank 0. Throws AgreedError (all ranks
// alike) or Error (this rank only: the caller must abort the job). exit.json is written by rank 0 for outcomes and for
// agreed errors once the run directory is held.
TrainOutcome train(Communicator& world, const TrainRequest& request, std::ostream& out);

}  // namespace farsight
