// SPDX-License-Identifier: Apache-2.0
// Language modelling as a task: token corpora, LanguageModel, cross-entropy.
#pragma once

#include <memory>
#include <string>

#include "trainer/task.h"

namespace farsight {

class LanguageTask : public Task {
 public:
  LanguageTask(const Config& config, const DatasetFiles& files, const std::string& where);

  int64_t train_samples() const override { return train_->samples(); }
  bool has_validation() const override { return valid_ != nullptr; }
  int64_t tokens_per_sample() const override { return config_.data.sequence; }
  std::string sample_name() const override;
  SequenceLayout sequence(const RunLayout& layout) const override;
  std::unique_ptr<BatchStream> train_stream(const TaskPlace& place, StreamPlan plan) override;
  std::unique_ptr<Trainable> make_model(const MeshShape& mesh, int64_t rank) const override;
  double flops_per_token() const override;
  bool solve(Trainable& /*model*/, const TaskPlace& /*place*/) override { return false; }
  ValidationResult validate(Trainable& model, ParameterShards& shards, const TaskPlace& place,
                            const std::function<void()>& on_batch) override;
  std::optional<std::string> show_sample(Trainable& model, ParameterShards& shards) override;
  void describe(StateDescription& description) const override;
  void save_assets(FileSystem& files, const std::string& directory) const override;
  std::string next_command(const std::string& directory) const override;

 private:
  Config config_;
  std::vector<CorpusDescriptor> train_files_;
  std::shared_ptr<Corpus> train_, valid_;
};

}  // namespace farsight
