// SPDX-License-Identifier: Apache-2.0
// What a checkpoint of a run consists of, and how a run takes it back.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/series.h"
#include "trainer/best_loss.h"
#include "trainer/checkpoint/load.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/config.h"
#include "trainer/load_targets.h"
#include "trainer/optimizer.h"
#include "trainer/trainable.h"

namespace farsight {

// Where training stands. Together with weights and optimizer state this is everything.
struct TrainingPosition {
  int64_t step = 0;     // optimizer steps done
  int64_t tokens = 0;   // input tokens seen
  int64_t samples = 0;  // global sample cursor
};

struct StateDescription {
  BestLoss best;
  std::string config_text, config_hash, tokenizer_fingerprint;
  std::vector<DatasetIdentity> datasets;
  std::map<std::string, int64_t> mesh;
  int64_t seed = 0;
  int64_t world = 1;
};

// This rank's part of a save.
Snapshot make_snapshot(const ParameterShards& shards, const Optimizer& optimizer, const TrainingPosition& position,
                       const StateDescription& description);

// Where a load puts the weights of a model that is here whole.
LoadTargets weight_targets(Trainable& model);

// Error{data} when the checkpoint was trained with another tokeniser, naming both fingerprints; also when its data are
// others than `description` says, unless allow_change.
void check_same_data(const Manifest& manifest, const StateDescription& description, bool allow_change);

// One entry per file of the training split.
std::vector<DatasetIdentity> dataset_identities(const std::vector<CorpusDescriptor>& files);
std::vector<DatasetIdentity> dataset_identities(const std::vector<SeriesDescriptor>& files);

}  // namespace farsight
