// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/forecast_task.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "trainer/forecast/forecast_cost.h"
#include "trainer/forecast/forecast_metrics.h"
#include "trainer/forecast/linear_forecaster.h"
#include "trainer/forecast/linear_solution.h"
#include "trainer/run_mesh.h"

namespace farsight {
namespace {

constexpr const char* kFactsName = "/forecast.json";
constexpr int64_t kMaxFactsBytes = int64_t{64} << 20;

std::vector<SeriesDescriptor> descriptors_of(const DatasetFiles& files, const std::string& split) {
  return series_files(files.of(split));
}

}  // namespace

SeriesAccess series_access(const Config& config, const std::string& where) {
  SeriesAccess access;
  if (config.data.io == IoChoice::map) access.io = DataIo::map;
  if (config.data.io == IoChoice::pread) access.io = DataIo::pread;
  access.where = where;
  return access;
}

ForecastFacts forecast_facts(const Config& config, const std::vector<SeriesDescriptor>& train, SeriesFiles& files) {
  ForecastFacts facts;
  facts.channels = files.channels();
  facts.scale = config.data.normalise ? pooled_scale(train) : std::vector<ChannelScale>(facts.channels.size());
  facts.frequency = files.frequency();
  facts.season = config.eval.season > 0 ? config.eval.season : usual_season(facts.frequency);
  std::vector<int64_t> all(facts.channels.size());
  for (size_t c = 0; c < all.size(); ++c) all[c] = static_cast<int64_t>(c);
  facts.seasonal_error = mase_scales(files, all, facts.season);
  return facts;
}

WindowOptions window_options(const Config& config, const ForecastFacts& facts, const std::string& split) {
  WindowOptions options;
  options.split = split;
  options.lookback = config.data.lookback;
  options.horizon = config.data.horizon;
  options.stride = split == "train" ? config.data.stride : 1;
  options.targets = target_channels(config, facts.channels);
  options.scale = facts.scale;
  for (const std::string& name : config.data.calendar) options.calendar.push_back(calendar_feature(name));
  return options;
}

ForecastTask::ForecastTask(const Config& config, const DatasetFiles& files, const std::string& where)
    : config_(config), where_(where), train_descriptors_(descriptors_of(files, "train")) {
  train_files_ = std::make_shared<SeriesFiles>(train_descriptors_, series_access(config, where));
  forecast_spec(config, train_files_->channels());  // refuses targets and covariates that do not fit, now
  facts_ = forecast_facts(config, train_descriptors_, *train_files_);
  samples_ = SeriesWindows(train_files_, window_options(config_, facts_, "train")).samples();
  if (!files.has("valid")) return;
  valid_files_ = std::make_shared<SeriesFiles>(descriptors_of(files, "valid"), series_access(config, where));
  SeriesWindows(valid_files_, window_options(config_, facts_, "valid"));  // refuses a split without a window now
}

int64_t ForecastTask::tokens_per_sample() const {
  return config_.data.lookback * static_cast<int64_t>(target_channels(config_, facts_.channels).size());
}

std::string ForecastTask::sample_name() const {
  return fmt::format("windows of {} + {} rows, {} channels", config_.data.lookback, config_.data.horizon,
                     target_channels(config_, facts_.channels).size());
}

SequenceLayout ForecastTask::sequence(const RunLayout& layout) const { return sequence_layout(config_, layout); }

std::unique_ptr<BatchStream> ForecastTask::train_stream(const TaskPlace& /*place*/, StreamPlan plan) {
  return std::make_unique<BatchStream>(
      std::make_unique<SeriesWindows>(train_files_, window_options(config_, facts_, "train")), plan);
}

std::unique_ptr<Trainable> ForecastTask::make_model(const MeshShape& mesh, int64_t rank) const {
  return make_forecaster(config_, facts_.channels, model_sharding(config_, mesh, rank));
}

double ForecastTask::flops_per_token() const {
  return forecast_cost(config_, facts_.channels).flops_per_window / static_cast<double>(tokens_per_sample());
}

bool ForecastTask::solve(Trainable& model, const TaskPlace& place) {
  if (config_.model.kind != ModelKind::linear || config_.model.solver != SolverChoice::closed_form) return false;
  // The stream of training windows already reads from these files, in a thread of its own.
  SeriesWindows train(train_files_->reopen(), window_options(config_, facts_, "train"));
  dynamic_cast<LinearForecaster&>(model).set(solve_linear(train, place.mesh.world()));
  return true;
}

ValidationResult ForecastTask::validate(Trainable& model, ParameterShards& shards, const TaskPlace& place,
                                        const std::function<void()>& on_batch) {
  auto windows = std::make_unique<SeriesWindows>(valid_files_, window_options(config_, facts_, "valid"));
  BatchStream stream(std::make_unique<SeriesWindows>(*windows), validation_plan(place, windows->samples(), config_));
  auto& forecaster = dynamic_cast<Forecaster&>(model);
  ModelPass pass;
  pass.training = false;
  pass.shards = &shards;
  // Sums of losses, squared and absolute errors where the model computes; targets.
  const Tensor totals = Tensor::zeros({3}, DType::f64, MemoryTag::other);
  std::array<int64_t, 1> count{};
  while (const StepBatch* step = stream.next()) {
    for (const auto& micro : step->micro) {
      Tape tape(/*recording=*/false);
      shards.begin_pass(/*training=*/false);
      forecaster.score(tape, place.mesh, micro, pass, totals);
      shards.end_pass();
      count[0] += micro.valid_labels;
      if (on_batch) on_batch();
    }
  }
  Communicator& data = place.mesh.dp();
  data.all_reduce_now(totals, ReduceOp::sum);
  data.all_reduce(std::span<int64_t>(count), ReduceOp::sum);
  const Tensor host = totals.to(Device::cpu);
  const double* sums = host.data<double>();
  const auto targets = static_cast<double>(std::max<int64_t>(1, count[0]));
  ValidationResult result;
  result.loss = result.metrics.loss = sums[0] / targets;
  result.metrics.mse = sums[1] / targets;
  result.metrics.mae = sums[2] / targets;
  result.text = fmt::format("loss {:.6f}  mse {:.6f}  mae {:.6f}", result.loss, sums[1] / targets, sums[2] / targets);
  return result;
}

std::optional<std::string> ForecastTask::show_sample(Trainable& /*model*/, ParameterShards& /*shards*/) {
  return std::nullopt;
}

void ForecastTask::describe(StateDescription& description) const {
  description.datasets = dataset_identities(train_descriptors_);
}

void ForecastTask::save_assets(FileSystem& files, const std::string& directory) const {
  save_facts(files, directory, facts_);
}

std::string ForecastTask::next_command(const std::string& directory) const {
  return fmt::format("farsight eval {} --split=test", directory);
}

void save_facts(FileSystem& files, const std::string& directory, const ForecastFacts& facts) {
  nlohmann::ordered_json json;
  json["step_ns"] = facts.frequency.step_ns;
  json["months"] = facts.frequency.months;
  json["season"] = facts.season;
  for (size_t c = 0; c < facts.channels.size(); ++c) {
    json["channels"].push_back({{"name", facts.channels[c].name},
                                {"unit", facts.channels[c].unit},
                                {"role", static_cast<int>(facts.channels[c].role)},
                                {"mean", facts.scale[c].mean},
                                {"scale", facts.scale[c].scale},
                                {"seasonal_error", facts.seasonal_error[c]}});
  }
  replace_file(files, directory + kFactsName,
               json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

ForecastFacts load_facts(FileSystem& files, const std::string& directory) {
  const std::string path = directory + kFactsName;
  if (!exists(files, path)) fail(ErrorKind::data, "{}: missing; it is written when training starts", path);
  const auto json = nlohmann::json::parse(read_text(files, path, kMaxFactsBytes), nullptr, /*allow_exceptions=*/false);
  try {
    ForecastFacts facts;
    facts.frequency = {json.at("step_ns").get<int64_t>(), json.at("months").get<int64_t>()};
    facts.season = json.at("season").get<int64_t>();
    for (const auto& channel : json.at("channels")) {
      const int role = channel.at("role").get<int>();
      if (role < 0 || role > static_cast<int>(ChannelRole::known_future)) throw std::out_of_range("role");
      facts.channels.push_back({channel.at("name").get<std::string>(), channel.at("unit").get<std::string>(),
                                static_cast<ChannelRole>(role)});
      facts.scale.push_back({channel.at("mean").get<double>(), channel.at("scale").get<double>()});
      facts.seasonal_error.push_back(channel.at("seasonal_error").get<double>());
    }
    return facts;
  } catch (const std::exception& error) {
    fail(ErrorKind::data, "{}: not what training writes: {}", path, error.what());
  }
}

}  // namespace farsight
