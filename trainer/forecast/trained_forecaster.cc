// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/trained_forecaster.h"

#include <algorithm>

#include "kernels/error.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/load.h"
#include "trainer/run_device.h"

namespace farsight {
namespace {

void load_from(FileSystem& files, const std::string& path, TrainedForecaster& trained) {
  const Manifest manifest = verify_checkpoint(files, path, VerifyLevel::header);
  LoadTargets weights = weight_targets(*trained.model);
  load_tensors(files, path, manifest, weights.targets());
  weights.deliver();
  trained.checkpoint = path;
  trained.step = manifest.state.step;
}

// The best one first, then the newest.
std::vector<Candidate> candidates(FileSystem& files, const std::string& directory) {
  std::vector<Candidate> all = list_checkpoints(files, directory);
  const int64_t best = best_step(files, directory).value_or(-1);
  std::stable_partition(all.begin(), all.end(), [best](const Candidate& c) { return c.step == best; });
  return all;
}

}  // namespace

TrainedForecaster load_trained_forecaster(const RunReference& run, const Config& config) {
  const auto files = make_posix_file_system();
  TrainedForecaster trained;
  trained.config = config;
  trained.facts = load_facts(*files, run.directory);
  trained.model = make_forecaster(config, trained.facts.channels);
  trained.model->parameters().allocate({.gradients = false, .value_type = value_type(config)});
  if (!run.checkpoint.empty()) {
    load_from(*files, run.checkpoint, trained);
    return trained;
  }
  const std::string directory = run.directory + "/checkpoints";
  for (const auto& candidate : candidates(*files, directory)) {
    try {
      load_from(*files, candidate.path, trained);
      return trained;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::data) throw;
      trained.notes.push_back(fmt::format("checkpoint step {} rejected: {}", candidate.step, error.what()));
    }
  }
  std::string reasons;
  for (const auto& note : trained.notes) reasons += "\n  " + note;
  fail(ErrorKind::data, "'{}' holds no usable checkpoint{}", directory,
       reasons.empty() ? "; train the run first" : ":" + reasons);
}

}  // namespace farsight
