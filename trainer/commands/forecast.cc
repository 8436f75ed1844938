// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/forecast.h"

#include <algorithm>
#include <ostream>

#include "data/date_time.h"
#include "data/file.h"
#include "data/series_csv.h"
#include "kernels/error.h"
#include "trainer/forecast/future.h"
#include "trainer/run_device.h"

namespace farsight {
namespace {

char one_character(const CommandArguments& arguments, const char* option, char otherwise) {
  const std::string text = arguments.get(option, "");
  if (text.empty() || text == "auto") return otherwise;
  if (text == "tab") return '\t';
  if (text.size() == 1) return text[0];
  fail(ErrorKind::usage, "--{}={}: one character is needed", option, text);
}

SeriesCsvOptions csv_options(const CommandArguments& arguments, const ForecastFacts& facts) {
  SeriesCsvOptions options;
  options.inputs = {arguments.get("input", "")};
  options.time = arguments.get("time", "");
  options.series = arguments.get("series", "");
  options.date_format = arguments.get("date-format", "");
  options.timezone = arguments.get("timezone", "");
  options.delimiter = one_character(arguments, "delimiter", '\0');
  options.decimal = one_character(arguments, "decimal", '.');
  options.frequency = to_string(facts.frequency);
  options.open_end = true;
  const std::string missing = arguments.get("missing", "mask");
  if (missing != "mask" && missing != "error" && missing != "ffill") {
    fail(ErrorKind::usage, "--missing={}: use mask, ffill or error", missing);
  }
  options.missing = missing == "error"   ? MissingPolicy::error
                    : missing == "ffill" ? MissingPolicy::forward_fill
                                         : MissingPolicy::mask;
  for (const Channel& channel : facts.channels) {
    if (channel.role == ChannelRole::known_future) options.known_future.push_back(channel.name);
  }
  return options;
}

// The last rows of the run's own data.
SeriesCsv table_of(SeriesFiles& files, int64_t rows) {
  SeriesCsv csv;
  csv.table.channels = files.channels();
  csv.table.frequency = files.frequency();
  const int64_t columns = files.channel_count();
  for (int64_t s = 0; s < files.series_count(); ++s) {
    const int64_t count = std::min(rows, files.rows(s)), first = files.rows(s) - count;
    Series series;
    series.id = files.id(s);
    for (int64_t t = first; t < files.rows(s); ++t) series.time.push_back(files.time(s, t));
    const float* values = files.values(s, first, count);
    series.values.assign(values, values + count * columns);
    if (const uint8_t* mask = files.mask(s, first, count)) series.mask.assign(mask, mask + count * columns);
    csv.table.series.push_back(std::move(series));
  }
  return csv;
}

// The closed-form linear forecaster of the run's training data; nothing where they are gone.
std::optional<LinearSolution> linear_solution(const TrainedForecaster& trained, int64_t horizon, std::ostream& err) {
  Config config = trained.config;
  config.data.horizon = horizon;
  try {
    const std::vector<SeriesDescriptor> files = series_files(probe_dataset(config.data).train);
    SeriesWindows train(std::make_shared<SeriesFiles>(files, series_access(config, "")),
                        window_options(config, trained.facts, "train"));
    return solve_linear(train, *make_self_communicator());
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data && error.kind() != ErrorKind::config) throw;
    err << "no column 'linear': " << error.what() << '\n';
    return std::nullopt;
  }
}

}  // namespace

int run_forecast(const CommandArguments& arguments, std::ostream& out, std::ostream& err) {
  const RunReference run = find_run(arguments.positional.at(0));
  Config config = run_config(run);
  if (config.task.kind != TaskKind::forecast) {
    fail(ErrorKind::config, "'{}' is a language model; farsight generate continues texts", run.directory);
  }
  config.run.device = parse_device(arguments.get("device", "auto"));
  const std::string output = arguments.get("output", "");
  const auto world = make_self_communicator();
  std::optional<LinearSolution> linear;
  // Before threads of the device are started: files of the training data are probed in child processes.
  SeriesCsv recent;
  const auto files = make_posix_file_system();
  const ForecastFacts facts = load_facts(*files, run.directory);
  if (arguments.has("input")) {
    recent = read_series_csv(csv_options(arguments, facts));
  } else {
    const int64_t rows = std::max(config.data.lookback, facts.season);
    SeriesFiles own(series_files(probe_dataset(config.data).train), series_access(config, ""));
    recent = table_of(own, rows);
  }
  const RunDevice device(config, *world, /*training=*/false);
  TrainedForecaster trained = load_trained_forecaster(run, config);
  FutureOptions options;
  options.horizon = arguments.integer("horizon", trained.config.data.horizon);
  if (options.horizon < 1) fail(ErrorKind::usage, "--horizon={}: at least 1", options.horizon);
  options.paths = arguments.integer("paths", 200);
  if (options.paths < 1) fail(ErrorKind::usage, "--paths={}: at least 1", options.paths);
  options.seed = static_cast<uint64_t>(arguments.integer("seed", 0));
  linear = linear_solution(trained, options.horizon, err);
  if (linear) options.linear = &*linear;
  for (const std::string& note : trained.notes) err << note << '\n';
  for (const std::string& warning : recent.warnings) err << "warning: " << warning << '\n';
  const FutureForecast future = forecast_future(trained, recent.table, recent.open_rows, options);
  for (const std::string& warning : future.warnings) err << "warning: " << warning << '\n';
  const std::string text = to_csv(future, arguments.has("units"));
  if (output.empty() || output == "-") {
    out << text;
    return 0;
  }
  write_whole(output, text);
  const auto channels = static_cast<int64_t>(future.channels.size());
  out << fmt::format("{}: {} rows of {} channel{} from {} on, by {} (step {})\n", output, options.horizon, channels,
                     channels == 1 ? "" : "s", iso_time(future.time.front().front()), trained.checkpoint, trained.step);
  return 0;
}

}  // namespace farsight
