// SPDX-License-Identifier: Apache-2.0
#include "tests/forecast/forecast_case.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "data/probe.h"
#include "kernels/random.h"
#include "tests/forecast/synthetic_series.h"
#include "trainer/forecast/forecast_task.h"

namespace farsight {

std::string short_series() {
  static const struct Folder {
    Folder() { std::filesystem::create_directories(path); }
    ~Folder() { std::filesystem::remove_all(path); }
    std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("farsight-forecast-" + std::to_string(::getpid()));
  } owned;
  static const std::string path = write_synthetic((owned.path / "short.h5").string(), synthetic_table(320));
  return path;
}

DatasetFiles series_dataset(const std::string& path) {
  DatasetFiles files;
  files.train = {describe_series(path)};
  return files;
}

Config forecast_config(const std::string& path, std::vector<std::string> overrides) {
  const bool linear =
      std::find(overrides.begin(), overrides.end(), std::string("model.kind=linear")) != overrides.end();
  std::string text = "[task]\nkind = \"forecast\"\n[data]\ntrain = [\"" + path + "\"]\nlookback = 48\nhorizon = 12\n";
  text += linear ? "[model]\nkind = \"linear\"\n"
                 : "[model]\nkind = \"patchtst\"\nlayers = 2\nwidth = 8\nheads = 2\nmlp_width = 12\npatch = 8\n"
                   "patch_stride = 4\ndropout = 0.2\n";
  text +=
      "[train]\nbatch = \"12 samples\"\nsteps = \"20 steps\"\npatience = 0\n[parallel]\nbucket = \"4KiB\"\n"
      "[optim]\nlr = 1e-3\nschedule = \"constant\"\n[eval]\nevery = \"0 steps\"\n[checkpoint]\nevery = \"0 steps\"\n"
      "[log]\nevery = \"1 steps\"\n[guard]\nwatchdog = \"60s\"\n";
  return parse_config(text, "forecast.toml", overrides);
}

TrainedForecaster untrained_forecaster(const Config& config) {
  TrainedForecaster trained;
  trained.config = config;
  const std::vector<SeriesDescriptor> files{describe_series(config.data.train.front())};
  SeriesFiles open(files, {});
  trained.facts = forecast_facts(config, files, open);
  trained.model = make_forecaster(config, trained.facts.channels);
  trained.model->parameters().allocate({.gradients = false});
  trained.model->parameters().initialize(static_cast<uint64_t>(config.run.seed));
  return trained;
}

void shake(Forecaster& model, double size) {
  for (Parameter& p : model.parameters().parameters()) {
    const uint64_t key = init_key(1, "shake, " + p.name);
    const auto values = p.value.span<float>();
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] += static_cast<float>(size * (uniform_variate(key, i) - 0.5));
    }
  }
}

}  // namespace farsight
