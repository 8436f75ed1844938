// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/forecast_cost.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/file.h"
#include "data/probe.h"
#include "kernels/error.h"
#include "trainer/config_check.h"
#include "trainer/forecast/forecast_task.h"
#include "trainer/metrics.h"

namespace farsight {
namespace {

constexpr int64_t kBytes = 4;  // of an activation

// Multiply-adds and floats of one window of one channel.
struct ChannelCost {
  double products = 0.0;
  double floats = 0.0;
};

ChannelCost linear_cost(const Config& config, int64_t outputs) {
  const auto lookback = static_cast<double>(config.data.lookback);
  const double maps = config.model.form == LinearForm::dlinear ? 2.0 : 1.0;
  const auto head = static_cast<double>(config.data.horizon * outputs);
  return {maps * lookback * head, (1.0 + maps) * lookback + (1.0 + maps) * head};
}

// A token of a layer keeps q, k, v, the output of attention, both branches, both sums and both norms (10 widths), the
// hidden layer before and behind gelu and dropout (3), and its scores.
ChannelCost patchtst_cost(const Config& config, int64_t tokens, int64_t outputs) {
  const ModelConfig& m = config.model;
  const auto width = static_cast<double>(m.width), hidden = static_cast<double>(m.mlp_width);
  const auto patch = static_cast<double>(m.patch), layers = static_cast<double>(m.layers);
  const auto n = static_cast<double>(tokens), heads = static_cast<double>(m.heads);
  const auto head = static_cast<double>(config.data.horizon * outputs);
  const double layer = width * (4.0 * width + 2.0 * hidden + 2.0 * n);
  const double kept = 10.0 * width + 3.0 * hidden + (m.residual_attention ? heads * n : 2.0 * heads);
  return {n * (width * patch + layers * layer + width * head), n * (layers * kept + patch + 3.0 * width) + 2.0 * head};
}

struct DataFacts {
  std::vector<Channel> channels;  // of the first train file that exists
  int64_t windows = 0;            // of training
  bool complete = true;           // every file exists
  std::vector<std::string> notes;
};

DataFacts look_at_data(const Config& config) {
  DataFacts facts;
  std::error_code ignored;
  for (const auto* list : {&config.data.train, &config.data.valid, &config.data.test}) {
    for (const std::string& path : *list) {
      if (std::filesystem::exists(path, ignored)) continue;
      facts.complete = false;
      facts.notes.push_back(fmt::format("{} does not exist yet: its contents are not checked", path));
    }
  }
  if (!facts.complete) return facts;
  const ForecastTask task(config, probe_dataset(config.data), "");  // refuses what training would
  facts.channels = task.facts().channels;
  facts.windows = task.train_samples();
  return facts;
}

}  // namespace

ForecastCost forecast_cost(const Config& config, const std::vector<Channel>& channels) {
  const auto model = make_forecaster(config, channels);
  const ForecastSpec& spec = model->forecast_spec();
  ForecastCost cost;
  cost.parameters = model->parameters().global_count();
  ChannelCost one;
  if (config.model.kind == ModelKind::linear) {
    one = linear_cost(config, spec.outputs());
  } else {
    cost.tokens = (config.data.lookback - config.model.patch) / config.model.patch_stride + 2;
    one = patchtst_cost(config, cost.tokens, spec.outputs());
  }
  const auto targets = static_cast<double>(spec.target_count());
  cost.flops_per_window = 6.0 * one.products * targets;
  cost.bytes_per_window = static_cast<int64_t>(one.floats * targets) * kBytes;
  return cost;
}

int64_t forecast_memory(const Config& config, const ForecastCost& cost, const RunLayout& layout) {
  constexpr int64_t kStateBytes = 16;  // weight, gradient, two moments
  const int64_t ahead = (config.data.prefetch + 1) * (config.data.lookback + 2 * config.data.horizon) * kBytes;
  return cost.parameters * kStateBytes + layout.micro_batch * cost.bytes_per_window +
         layout.micro_batch * layout.passes * ahead;
}

std::string plan_forecast(const Config& config, int64_t ranks, int64_t memory_limit, bool json) {
  std::string problems;
  const auto add = [&](const std::string& line) { problems += (problems.empty() ? "" : "\n") + line; };
  RunLayout layout;
  DataFacts facts;
  ForecastCost cost;
  int64_t memory = 0;
  try {
    layout = resolve_layout(config, ranks);
  } catch (const Error& error) {
    add(error.what());
  }
  try {
    facts = look_at_data(config);
    if (facts.channels.empty()) {
      facts.notes.emplace_back("counted with one channel");
      facts.channels = {{.name = config.data.targets.empty() ? "channel" : config.data.targets.front(), .unit = {}}};
    }
    cost = forecast_cost(config, facts.channels);
  } catch (const Error& error) {
    add(fmt::format("{}: error: {}", first_origin(config, {"data.train"}, "configuration"), error.what()));
  }
  if (problems.empty()) memory = forecast_memory(config, cost, layout);
  if (memory_limit > 0 && memory > memory_limit) {
    add(
        fmt::format("configuration: error: a rank needs about {}, --memory gives {}; use more data-parallel ranks or a "
                    "smaller train.batch",
                    show_bytes(memory), show_bytes(memory_limit)));
  }
  if (!problems.empty()) throw Error(ErrorKind::config, problems);
  const double flops = cost.flops_per_window * static_cast<double>(config.train.batch_samples);
  if (json) {
    const nlohmann::ordered_json page = {{"ranks", ranks},
                                         {"data", layout.data},
                                         {"micro_batch", layout.micro_batch},
                                         {"passes", layout.passes},
                                         {"channels", facts.channels.size()},
                                         {"parameters", cost.parameters},
                                         {"windows", facts.windows},
                                         {"flops_per_step", flops},
                                         {"memory_bytes", memory},
                                         {"notes", facts.notes}};
    return page.dump(1) + "\n";
  }
  std::string text =
      fmt::format("{} rank{}: {} data-parallel, {} windows a pass, {} pass{} a step\n", ranks, ranks == 1 ? "" : "s",
                  layout.data, layout.micro_batch, layout.passes, layout.passes == 1 ? "" : "es");
  text += fmt::format("{} channels, {} parameters{}\n", facts.channels.size(), with_commas(cost.parameters),
                      cost.tokens > 0 ? fmt::format(", {} tokens a channel", cost.tokens) : "");
  if (facts.windows > 0) {
    text += fmt::format("{} training windows: {} steps an epoch\n", with_commas(facts.windows),
                        with_commas((facts.windows + config.train.batch_samples - 1) / config.train.batch_samples));
  }
  text += fmt::format("a step: {:.3g} FLOPs; memory of a rank: about {}\n", flops, show_bytes(memory));
  for (const std::string& note : facts.notes) text += "note: " + note + "\n";
  return text;
}

}  // namespace farsight
