// SPDX-License-Identifier: Apache-2.0
// farsight eval of a forecaster.
#include <algorithm>
#include <ostream>

#include <nlohmann/json.hpp>

#include "data/date_time.h"
#include "data/file.h"
#include "kernels/error.h"
#include "parallel/agree.h"
#include "trainer/agreed_error.h"
#include "trainer/commands/forecast.h"
#include "trainer/forecast/evaluation.h"
#include "trainer/forecast/trained_forecaster.h"
#include "trainer/parallel_command.h"
#include "trainer/run_device.h"

namespace farsight {
namespace {

struct Job {
  RunReference run;
  Config config;
  std::string split;
  int64_t drop_last = 0, horizon = 0;
  bool json = false, details = false;
  DatasetFiles files;  // of rank 0
};

std::string optional_cell(const std::optional<double>& value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : std::string("n/a");
}

void print_header(bool quantiles, std::ostream& out) {
  out << fmt::format("{:<16}{:>10}{:>10}{:>10}{:>12}{:>9}{:>9}", "", "MSE", "MAE", "RMSE", "MAE orig.", "sMAPE",
                     "MASE");
  if (quantiles) out << fmt::format("{:>10}{:>9}", "CRPS", "WQL");
  out << '\n';
}

// CRPS of a point forecast is its MAE.
void print_row(const std::string& name, const MetricValues& m, bool quantiles, std::ostream& out) {
  out << fmt::format("{:<16}{:>10.6f}{:>10.6f}{:>10.6f}{:>12.5g}{:>9.4f}{:>9}", name, m.mse, m.mae, m.rmse,
                     m.mae_original, m.smape, optional_cell(m.mase, 4));
  if (quantiles) out << fmt::format("{:>10.6f}{:>9}", m.crps.value_or(m.mae), optional_cell(m.wql, 4));
  out << '\n';
}

void print_intervals(const MetricValues& m, std::ostream& out) {
  for (const MetricValues::Interval& i : m.intervals) {
    const double nominal = 100.0 * (i.high - i.low);
    out << fmt::format("interval {:.1f} %: holds {:.1f} % of the targets, mean width {:.5g} (z {:.4f})\n", nominal,
                       100.0 * i.coverage, i.width, i.width_z);
  }
}

// Steps 1, 2, 4, 8 ... and the last.
std::vector<int64_t> shown_steps(int64_t horizon) {
  std::vector<int64_t> steps;
  for (int64_t h = 1; h < horizon; h *= 2) steps.push_back(h);
  steps.push_back(horizon);
  return steps;
}

void print_details(const ForecastEvaluation& evaluation, const TrainedForecaster& trained, std::ostream& out) {
  const ForecastMetrics& model = evaluation.rows.front().metrics;
  const bool quantiles = !model.shape().levels.empty();
  out << "\nby channel\n";
  const auto& targets = trained.model->forecast_spec().targets;
  for (size_t i = 0; i < targets.size(); ++i) {
    const Channel& channel = trained.facts.channels[static_cast<size_t>(targets[i])];
    print_row(channel.unit.empty() ? channel.name : fmt::format("{} [{}]", channel.name, channel.unit),
              model.channel(static_cast<int64_t>(i)), quantiles, out);
  }
  out << "\nby step of the horizon\n";
  for (const int64_t h : shown_steps(model.shape().horizon)) {
    print_row(fmt::format("step {}", h), model.step(h - 1), quantiles, out);
  }
}

nlohmann::ordered_json to_json(const MetricValues& m) {
  nlohmann::ordered_json json = {{"count", m.count},
                                 {"mse", m.mse},
                                 {"mae", m.mae},
                                 {"rmse", m.rmse},
                                 {"mse_original", m.mse_original},
                                 {"mae_original", m.mae_original},
                                 {"rmse_original", m.rmse_original},
                                 {"smape", m.smape}};
  if (m.mase) json["mase"] = *m.mase;
  if (m.mase_channels_left_out > 0) json["mase_channels_left_out"] = m.mase_channels_left_out;
  if (m.crps) json["crps"] = *m.crps;
  if (m.crps_original) json["crps_original"] = *m.crps_original;
  if (m.wql) json["wql"] = *m.wql;
  for (const MetricValues::Interval& i : m.intervals) {
    json["intervals"].push_back(
        {{"low", i.low}, {"high", i.high}, {"coverage", i.coverage}, {"width", i.width}, {"width_z", i.width_z}});
  }
  return json;
}

nlohmann::ordered_json to_json(const ForecastEvaluation& evaluation, const TrainedForecaster& trained, const Job& job) {
  const ForecastMetrics& model = evaluation.rows.front().metrics;
  nlohmann::ordered_json json = {{"checkpoint", trained.checkpoint},
                                 {"step", trained.step},
                                 {"split", job.split},
                                 {"lookback", job.config.data.lookback},
                                 {"horizon", model.shape().horizon},
                                 {"windows", evaluation.windows},
                                 {"windows_left_out", evaluation.left_out},
                                 {"crossings", evaluation.crossings}};
  for (const NamedMetrics& row : evaluation.rows) json["total"][row.name] = to_json(row.metrics.total());
  const auto& targets = trained.model->forecast_spec().targets;
  for (size_t i = 0; i < targets.size(); ++i) {
    json["channels"][trained.facts.channels[static_cast<size_t>(targets[i])].name] =
        to_json(model.channel(static_cast<int64_t>(i)));
  }
  for (int64_t h = 0; h < model.shape().horizon; ++h) json["steps"].push_back(to_json(model.step(h)));
  return json;
}

void check_same_channels(const SeriesFiles& files, const ForecastFacts& facts) {
  const auto names = [](const std::vector<Channel>& channels) {
    std::string text;
    for (const Channel& channel : channels) text += (text.empty() ? "" : ", ") + channel.name;
    return text;
  };
  if (names(files.channels()) != names(facts.channels)) {
    fail(ErrorKind::data, "the data have the channels {}, the model was trained on {}", names(files.channels()),
         names(facts.channels));
  }
  if (files.frequency() != facts.frequency) {
    fail(ErrorKind::data, "the data have a row every {}, the model was trained on one every {}",
         to_string(files.frequency()), to_string(facts.frequency));
  }
}

int evaluate_job(Communicator& world, const Job& job, std::ostream& out) {
  const DatasetFiles files = broadcast_dataset(job.files, world);
  const RunDevice device = agreed([&] { return RunDevice(job.config, world, /*training=*/false); });
  TrainedForecaster trained;
  std::unique_ptr<SeriesWindows> train, windows;
  agreed([&] {
    together(world, [&] {
      trained = load_trained_forecaster(job.run, job.config);
      const auto open = [&](const std::string& split) {
        auto own = std::make_shared<SeriesFiles>(series_files(files.of(split)), series_access(job.config, ""));
        check_same_channels(*own, trained.facts);
        Config shape = job.config;
        shape.data.stride = 1;
        shape.data.horizon = job.horizon;
        return std::make_unique<SeriesWindows>(own, window_options(shape, trained.facts, split));
      };
      train = open("train");
      windows = open(job.split);
    });
  });
  EvaluationOptions options;
  options.baselines.baselines.assign(std::begin(kAllBaselines), std::end(kAllBaselines));
  if (job.config.data.lookback > kMostLinearLookback) options.baselines.baselines.pop_back();
  options.baselines.season = trained.facts.season;
  options.baselines.drop_last = job.drop_last;
  const ForecastEvaluation evaluation =
      agreed([&] { return evaluate_forecaster(*trained.model, *train, *windows, options, device.world(), {}); });
  if (world.rank() != 0) return 0;
  for (const auto& note : trained.notes) out << note << "\n";
  if (job.json) {
    out << to_json(evaluation, trained, job).dump(1) << std::endl;
    return 0;
  }
  const ForecastMetrics& model = evaluation.rows.front().metrics;
  out << fmt::format("{} step {}, split '{}': {} windows of {} + {} rows, {} channels{}\n", trained.checkpoint,
                     trained.step, job.split, with_commas(evaluation.windows), job.config.data.lookback,
                     model.shape().horizon, model.shape().channels,
                     evaluation.left_out > 0 ? fmt::format("; {} left out by --drop-last", evaluation.left_out) : "");
  const bool quantiles = !model.shape().levels.empty();
  print_header(quantiles, out);
  for (const NamedMetrics& row : evaluation.rows) print_row(row.name, row.metrics.total(), quantiles, out);
  print_intervals(model.total(), out);
  if (evaluation.crossings > 0.0) {
    out << fmt::format("{} neighbouring quantiles were out of order and sorted\n", evaluation.crossings);
  }
  if (job.details) print_details(evaluation, trained, out);
  out << std::flush;
  return 0;
}

}  // namespace

int run_eval_forecast(const CommandArguments& arguments, const RunReference& run, std::ostream& out,
                      std::ostream& err) {
  Job job;
  const auto before = [&] {
    job.run = run;
    job.config = run_config(run);
    job.config.run.device = parse_device(arguments.get("device", "auto"));
    job.split = arguments.get("split", "valid");
    job.drop_last = arguments.integer("drop-last", 0);
    if (job.drop_last < 0) fail(ErrorKind::usage, "--drop-last={}: a batch size is needed", job.drop_last);
    job.json = arguments.has("json");
    job.details = arguments.has("details");
    job.horizon = arguments.integer("horizon", job.config.data.horizon);
    if (job.horizon < 1 || job.horizon > job.config.data.horizon) {
      fail(ErrorKind::usage, "--horizon={}: the model forecasts 1 to {} rows", job.horizon, job.config.data.horizon);
    }
    if (arguments.has("data")) {
      job.config.data.valid = job.config.data.test = {arguments.get("data", "")};
    }
    if (expected_root()) job.files = probe_dataset(job.config.data);
  };
  return run_parallel(err, before, [&](Communicator& world) { return evaluate_job(world, job, out); });
}

}  // namespace farsight
