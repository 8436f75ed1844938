// SPDX-License-Identifier: Apache-2.0
#include "trainer/trained_model.h"

#include "kernels/error.h"
#include "trainer/checkpoint/load.h"
#include "trainer/model_spec.h"
#include "trainer/run_device.h"
#include "trainer/run_tokenizer.h"
#include "trainer/training_state.h"

namespace farsight {
namespace {

void load_from(FileSystem& files, const std::string& path, TrainedModel& trained) {
  const Manifest manifest = verify_checkpoint(files, path, VerifyLevel::header);
  if (manifest.state.tokenizer_fingerprint != trained.tokenizer.fingerprint) {
    fail(ErrorKind::data, "checkpoint '{}' was trained with tokeniser {}, the run directory holds {}", path,
         manifest.state.tokenizer_fingerprint, trained.tokenizer.fingerprint);
  }
  LoadTargets weights = weight_targets(*trained.model);
  load_tensors(files, path, manifest, weights.targets());
  weights.deliver();
  trained.checkpoint = path;
  trained.step = manifest.state.step;
}

}  // namespace

TrainedModel load_trained_model(const RunReference& run, const Config& config) {
  const auto files = make_posix_file_system();
  TrainedModel trained;
  trained.config = config;
  trained.tokenizer = load_tokenizer(*files, run.directory);
  trained.model = std::make_unique<LanguageModel>(model_spec(config, trained.tokenizer.vocab_size));
  trained.model->parameters().allocate({.gradients = false, .value_type = value_type(config)});
  if (!run.checkpoint.empty()) {
    load_from(*files, run.checkpoint, trained);
    return trained;
  }
  const std::string directory = run.directory + "/checkpoints";
  for (const auto& candidate : list_checkpoints(*files, directory)) {
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
