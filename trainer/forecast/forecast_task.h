// SPDX-License-Identifier: Apache-2.0
// Forecasting as a task: windows of time series, a forecaster, a loss on its head; judged by the mean loss over every
// window of the validation split, with MSE and MAE of the point forecast beside it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/series_windows.h"
#include "trainer/forecast/forecaster.h"
#include "trainer/task.h"

namespace farsight {

// What a model needs to know of the data it was trained on: kept in the run directory as forecast.json, so that it can
// forecast where the training data are not.
struct ForecastFacts {
  std::vector<Channel> channels;
  std::vector<ChannelScale> scale;     // what training used
  std::vector<double> seasonal_error;  // of each channel: mean |y_t - y_(t-season)| over the training rows (MASE)
  Frequency frequency;
  int64_t season = 1;
};

ForecastFacts forecast_facts(const Config& config, const std::vector<SeriesDescriptor>& train, SeriesFiles& files);

// Channels of config.data.targets. Error{data} for a name that the data do not have.
std::vector<int64_t> target_channels(const Config& config, const std::vector<Channel>& channels);
ForecastSpec forecast_spec(const Config& config, const std::vector<Channel>& channels);
// Error{config} for what the configuration and the data do not allow together.
std::unique_ptr<Forecaster> make_forecaster(const Config& config, const std::vector<Channel>& channels,
                                            const ModelSharding& sharding = {});
// Windows of a split, scaled as the facts say. stride 1 but for training.
WindowOptions window_options(const Config& config, const ForecastFacts& facts, const std::string& split);
SeriesAccess series_access(const Config& config, const std::string& where);

class ForecastTask : public Task {
 public:
  ForecastTask(const Config& config, const DatasetFiles& files, const std::string& where);

  const ForecastFacts& facts() const { return facts_; }
  int64_t train_samples() const override { return samples_; }
  bool has_validation() const override { return valid_files_ != nullptr; }
  int64_t tokens_per_sample() const override;
  std::string sample_name() const override;
  SequenceLayout sequence(const RunLayout& layout) const override;
  std::unique_ptr<BatchStream> train_stream(const TaskPlace& place, StreamPlan plan) override;
  std::unique_ptr<Trainable> make_model(const MeshShape& mesh, int64_t rank) const override;
  double flops_per_token() const override;
  bool solve(Trainable& model, const TaskPlace& place) override;
  ValidationResult validate(Trainable& model, ParameterShards& shards, const TaskPlace& place,
                            const std::function<void()>& on_batch) override;
  std::optional<std::string> show_sample(Trainable& model, ParameterShards& shards) override;
  void describe(StateDescription& description) const override;
  void save_assets(FileSystem& files, const std::string& directory) const override;
  std::string next_command(const std::string& directory) const override;

 private:
  Config config_;
  std::string where_;
  std::vector<SeriesDescriptor> train_descriptors_;
  std::shared_ptr<SeriesFiles> train_files_, valid_files_;  // separate: each stream reads in a thread of its own
  ForecastFacts facts_;
  int64_t samples_ = 0;
};

void save_facts(FileSystem& files, const std::string& directory, const ForecastFacts& facts);
// Error{data} when it is missing or not what save_facts writes.
ForecastFacts load_facts(FileSystem& files, const std::string& directory);

}  // namespace farsight
