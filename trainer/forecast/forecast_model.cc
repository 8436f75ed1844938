// SPDX-License-Identifier: Apache-2.0
// From configuration and channels to a forecaster.
#include <algorithm>
#include <charconv>
#include <memory>

#include "kernels/error.h"
#include "trainer/forecast/forecast_task.h"
#include "trainer/forecast/linear_forecaster.h"
#include "trainer/forecast/patchtst.h"

namespace farsight {
namespace {

MixtureComponent mixture_component(const std::string& text) {
  if (text == "gaussian") return {MixtureKind::gaussian, 1.0};
  if (text == "student_t") return {MixtureKind::student_t, 1.0};
  constexpr std::string_view kFixed = "fixed:";
  MixtureComponent fixed{MixtureKind::fixed, 0.0};
  const bool is_fixed = text.starts_with(kFixed);
  const char* const begin = text.data() + (is_fixed ? kFixed.size() : 0);
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, fixed.scale);
  if (is_fixed && error == std::errc() && stop == end && fixed.scale > 0.0) return fixed;
  fail(ErrorKind::config, "loss.components: '{}' is not gaussian, student_t or fixed:SCALE with a scale above 0", text);
}

ForecastLossKind loss_kind(LossChoice choice) {
  switch (choice) {
    case LossChoice::mae:
      return ForecastLossKind::mae;
    case LossChoice::huber:
      return ForecastLossKind::huber;
    case LossChoice::quantile:
      return ForecastLossKind::quantile;
    case LossChoice::gaussian:
      return ForecastLossKind::gaussian;
    case LossChoice::student_t:
      return ForecastLossKind::student_t;
    case LossChoice::mixture:
      return ForecastLossKind::mixture;
    case LossChoice::automatic:
    case LossChoice::cross_entropy:
    case LossChoice::mse:
      break;
  }
  return ForecastLossKind::mse;
}

ForecastLossOptions loss_options(const LossConfig& loss) {
  ForecastLossOptions options;
  options.kind = loss_kind(loss.kind);
  options.delta = loss.delta;
  if (loss.kind == LossChoice::quantile) options.levels = loss.levels;
  if (loss.kind == LossChoice::mixture) {
    for (const std::string& text : loss.components) options.components.push_back(mixture_component(text));
  }
  return options;
}

// Models that treat every channel by itself cannot see covariates: to leave them out must be asked for.
void check_covariates(const Config& config, const std::vector<Channel>& channels, const ForecastSpec& spec) {
  if (config.data.covariates == CovariateChoice::ignore) return;
  const bool others = static_cast<int64_t>(channels.size()) > spec.target_count();
  const std::string kind = config.model.kind == ModelKind::linear ? "linear" : "patchtst";
  if (others && config.data.targets.empty()) {
    std::string names;
    for (const Channel& channel : channels) {
      if (channel.role != ChannelRole::target) names += fmt::format("{}{}", names.empty() ? "" : ", ", channel.name);
    }
    fail(ErrorKind::config,
         "model.kind = \"{}\" sees every channel by itself and has no use for the covariates {}; set data.covariates = "
         "\"ignore\" to leave them out",
         kind, names);
  }
  if (!config.data.calendar.empty()) {
    fail(ErrorKind::config, "model.kind = \"{}\" has no use for data.calendar; leave it out", kind);
  }
}

}  // namespace

std::vector<int64_t> target_channels(const Config& config, const std::vector<Channel>& channels) {
  std::vector<int64_t> targets;
  for (const std::string& name : config.data.targets) {
    const auto found = std::find_if(channels.begin(), channels.end(), [&](const Channel& c) { return c.name == name; });
    if (found == channels.end()) {
      std::string names;
      for (const Channel& channel : channels) names += (names.empty() ? "" : ", ") + channel.name;
      fail(ErrorKind::data, "data.targets: no channel '{}' (has: {})", name, names);
    }
    targets.push_back(found - channels.begin());
  }
  for (size_t c = 0; config.data.targets.empty() && c < channels.size(); ++c) {
    if (channels[c].role == ChannelRole::target) targets.push_back(static_cast<int64_t>(c));
  }
  std::sort(targets.begin(), targets.end());
  targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
  return targets;
}

ForecastSpec forecast_spec(const Config& config, const std::vector<Channel>& channels) {
  ForecastSpec spec;
  spec.lookback = config.data.lookback;
  spec.horizon = config.data.horizon;
  spec.channels = static_cast<int64_t>(channels.size());
  spec.targets = target_channels(config, channels);
  spec.instance_norm = config.model.instance_norm;
  spec.instance_affine = config.model.instance_affine;
  spec.dropout = config.model.dropout;
  spec.loss = loss_options(config.loss);
  if (config.model.kind == ModelKind::linear && config.model.form == LinearForm::nlinear) {
    spec.instance_norm = true;
    spec.norm_kind = InstanceNormKind::last;
  }
  check_covariates(config, channels, spec);
  return spec;
}

std::unique_ptr<Forecaster> make_forecaster(const Config& config, const std::vector<Channel>& channels,
                                            const ModelSharding& sharding) {
  const ModelConfig& m = config.model;
  ForecastSpec spec = forecast_spec(config, channels);
  if (m.kind == ModelKind::linear) {
    return std::make_unique<LinearForecaster>(std::move(spec), m.form, m.individual, sharding);
  }
  PatchTstSpec patch;
  patch.patch = m.patch;
  patch.stride = m.patch_stride;
  patch.layers = m.layers;
  patch.width = m.width;
  patch.heads = m.heads;
  patch.mlp_width = m.mlp_width;
  patch.norm = m.norm == NormChoice::layer ? PatchNorm::layer : PatchNorm::batch;
  patch.residual_attention = m.residual_attention;
  patch.norm_eps = static_cast<float>(m.norm_eps);
  return std::make_unique<PatchTst>(std::move(spec), patch, sharding);
}

}  // namespace farsight
