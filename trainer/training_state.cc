// SPDX-License-Identifier: Apache-2.0
#include "trainer/training_state.h"

#include "kernels/error.h"
#include "trainer/state_slices.h"
#include "trainer/version.h"

namespace farsight {

Snapshot make_snapshot(const ParameterShards& shards, const Optimizer& optimizer, const TrainingPosition& position,
                       const StateDescription& description) {
  Snapshot snapshot;
  snapshot.slices = state_slices(shards, optimizer);
  auto& state = snapshot.state;
  state.step = position.step;
  state.tokens = position.tokens;
  state.samples_consumed = position.samples;
  state.seed = static_cast<uint64_t>(description.seed);
  state.shuffle_seed = state.seed;
  state.config_text = description.config_text;
  state.config_hash = description.config_hash;
  state.code_version = version();
  state.tokenizer_fingerprint = description.tokenizer_fingerprint;
  state.datasets = description.datasets;
  description.best.save(state.loss_statistics);
  state.world = description.world;
  state.mesh = description.mesh;
  return snapshot;
}

LoadTargets weight_targets(Trainable& model) {
  LoadTargets targets;
  for (const auto& p : model.parameters().parameters()) {
    const Shape& shape = p.shape();
    targets.add({p.name, DType::f32, shape, Shape(shape.size(), 0), shape}, p.value);
  }
  return targets;
}

void check_same_data(const Manifest& manifest, const StateDescription& description, bool allow_change) {
  const auto& saved = manifest.state;
  if (saved.tokenizer_fingerprint != description.tokenizer_fingerprint) {
    fail(ErrorKind::data,
         "the checkpoint was trained with tokeniser {}, the dataset was made with {}; the ids mean different text. "
         "Prepare "
         "the dataset with the tokeniser of the checkpoint",
         saved.tokenizer_fingerprint, description.tokenizer_fingerprint);
  }
  if (allow_change) return;
  const auto sums = [](const std::vector<DatasetIdentity>& files) {
    std::string text;
    for (const auto& f : files) text += fmt::format(" {} ({} rows or tokens, {})", f.path, f.rows, f.checksum);
    return text;
  };
  bool same = saved.datasets.size() == description.datasets.size();
  for (size_t i = 0; same && i < saved.datasets.size(); ++i) {
    same = saved.datasets[i].checksum == description.datasets[i].checksum &&
           saved.datasets[i].rows == description.datasets[i].rows;
  }
  if (same) return;
  fail(ErrorKind::data,
       "the training data are not those of the checkpoint: saved{}, now{}; the sample order would change. Set "
       "data.allow_change = true to go on all the same",
       sums(saved.datasets), sums(description.datasets));
}

std::vector<DatasetIdentity> dataset_identities(const std::vector<CorpusDescriptor>& files) {
  std::vector<DatasetIdentity> out;
  for (const auto& file : files) {
    DatasetIdentity id;
    id.path = file.file;
    id.bytes = file.file_bytes;
    const auto* split = file.find("train");
    if (split != nullptr) {
      id.rows = split->tokens.size;
      id.checksum = split->tokens.content_xxh3 ? fmt::format("{:016x}", *split->tokens.content_xxh3) : file.uuid;
    }
    out.push_back(id);
  }
  return out;
}

std::vector<DatasetIdentity> dataset_identities(const std::vector<SeriesDescriptor>& files) {
  std::vector<DatasetIdentity> out;
  for (const auto& file : files) {
    DatasetIdentity id;
    id.path = file.file;
    id.bytes = file.file_bytes;
    uint64_t hash = 0;
    bool hashed = true;
    for (const SeriesEntry& entry : file.series) {
      id.rows += entry.rows;
      hashed = hashed && entry.values.content_xxh3.has_value();
      hash = hash * 31 + entry.values.content_xxh3.value_or(0);
    }
    id.checksum = hashed ? fmt::format("{:016x}", hash) : file.uuid;
    out.push_back(id);
  }
  return out;
}

}  // namespace farsight
