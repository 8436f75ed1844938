// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/future.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "data/date_time.h"
#include "kernels/error.h"
#include "kernels/random.h"
#include "trainer/forecast/evaluation.h"

namespace farsight {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Places of the run's channels in a table. Covariates that the model does not see may be missing.
std::vector<int64_t> match_channels(const TrainedForecaster& trained, const SeriesTable& table,
                                    std::vector<std::string>& warnings) {
  const ForecastSpec& spec = trained.model->forecast_spec();
  std::vector<int64_t> places;
  std::string missing;
  std::set<std::string> known;
  for (size_t c = 0; c < trained.facts.channels.size(); ++c) {
    const std::string& name = trained.facts.channels[c].name;
    known.insert(name);
    const auto found =
        std::find_if(table.channels.begin(), table.channels.end(), [&](const Channel& k) { return k.name == name; });
    const bool needed = std::binary_search(spec.targets.begin(), spec.targets.end(), static_cast<int64_t>(c));
    if (found == table.channels.end() && needed) missing += (missing.empty() ? "" : ", ") + name;
    places.push_back(found == table.channels.end() ? -1 : found - table.channels.begin());
  }
  if (!missing.empty()) {
    std::string names;
    for (const Channel& channel : table.channels) names += (names.empty() ? "" : ", ") + channel.name;
    fail(ErrorKind::data, "the input lacks the channels {} that the model was trained on (has: {})", missing, names);
  }
  for (const Channel& channel : table.channels) {
    if (!known.contains(channel.name)) warnings.push_back(fmt::format("column '{}' is not used", channel.name));
  }
  return places;
}

// The look-backs of all series, scaled, as one batch; and beyond them what has been forecast.
class Rolling {
 public:
  Rolling(TrainedForecaster& trained, int64_t rows) : trained_(trained), rows_(rows) {
    const int64_t lookback = spec().lookback;
    batch_.windows.past = Tensor::zeros({rows, spec().channels, lookback}, DType::f32, MemoryTag::data, Device::cpu);
    batch_.windows.past_observed =
        Tensor::zeros({rows, spec().channels, lookback}, DType::u8, MemoryTag::data, Device::cpu);
    batch_.sample_ids.assign(static_cast<size_t>(rows), 0);
  }

  const ForecastSpec& spec() const { return trained_.model->forecast_spec(); }

  void set(int64_t row, int64_t channel, int64_t t, double z, bool observed) {
    const int64_t at = (row * spec().channels + channel) * spec().lookback + t;
    batch_.windows.past.data<float>()[at] = observed ? static_cast<float>(z) : 0.0F;
    batch_.windows.past_observed.data<uint8_t>()[at] = observed ? 1 : 0;
  }

  // Moves every window `steps` rows on; the caller fills the new rows.
  void shift(int64_t steps) {
    const int64_t lookback = spec().lookback, lines = rows_ * spec().channels;
    const auto move = [&](auto* data) {
      for (int64_t r = 0; r < lines; ++r) {
        auto* row = data + r * lookback;
        if (steps < lookback) std::copy(row + steps, row + lookback, row);
      }
    };
    move(batch_.windows.past.data<float>());
    move(batch_.windows.past_observed.data<uint8_t>());
  }

  const MicroBatch& batch() const { return batch_; }

 private:
  TrainedForecaster& trained_;
  int64_t rows_;
  MicroBatch batch_;
};

// Forecast of one window in z units, longer than the model's horizon: each block is made from the one before.
class RollOut {
 public:
  RollOut(TrainedForecaster& trained, int64_t horizon, const FutureOptions& options)
      : trained_(trained), horizon_(horizon), options_(options) {}

  // start: one window. values: [C, H] points and [C, H, Q] quantiles.
  ForecastValues run(const Rolling& start, int64_t series, const std::vector<double>& levels) {
    const ForecastSpec& spec = trained_.model->forecast_spec();
    const int64_t paths = levels.empty() ? 1 : options_.paths, channels = spec.target_count();
    Rolling rolling(trained_, paths);
    copy_start(start, rolling, paths);
    std::vector<double> drawn(static_cast<size_t>(paths * channels * horizon_));  // [paths, C, H]
    for (int64_t done = 0; done < horizon_; done += spec.horizon) {
      const int64_t steps = std::min(spec.horizon, horizon_ - done);
      block(rolling, series, done, steps, drawn);
      rolling.shift(steps);
      for (int64_t p = 0; p < paths; ++p) put_back(rolling, p, done, steps, drawn);
    }
    return summarise(drawn, paths, levels);
  }

 private:
  static void copy_start(const Rolling& start, Rolling& to, int64_t paths) {
    const auto& from = start.batch().windows;
    for (int64_t p = 0; p < paths; ++p) {
      std::copy_n(from.past.data<float>(), from.past.numel(),
                  to.batch().windows.past.data<float>() + p * from.past.numel());
      std::copy_n(from.past_observed.data<uint8_t>(), from.past_observed.numel(),
                  to.batch().windows.past_observed.data<uint8_t>() + p * from.past_observed.numel());
    }
  }

  // A path is a draw of each step by itself: its key is what it is for. Draws of a point are the point.
  void block(const Rolling& rolling, int64_t series, int64_t done, int64_t steps, std::vector<double>& drawn) {
    const ForecastSpec& spec = trained_.model->forecast_spec();
    const int64_t channels = spec.target_count();
    WindowForecaster forecaster(*trained_.model, steps);
    const auto uniform = [&](int64_t p, int64_t c, int64_t h) {
      const uint64_t key = hash64(std::vector<uint64_t>{options_.seed, static_cast<uint64_t>(series),
                                                        static_cast<uint64_t>(p), static_cast<uint64_t>(c)});
      return uniform_variate(key, static_cast<uint64_t>(done + h));
    };
    forecaster.draw(rolling.batch(), uniform, [&](int64_t p, std::span<const double> values) {
      for (int64_t c = 0; c < channels; ++c) {
        std::copy_n(values.begin() + c * steps, steps, drawn.begin() + (p * channels + c) * horizon_ + done);
      }
    });
  }

  void put_back(Rolling& rolling, int64_t path, int64_t done, int64_t steps, const std::vector<double>& drawn) {
    const ForecastSpec& spec = trained_.model->forecast_spec();
    const int64_t kept = std::min(steps, spec.lookback);
    for (int64_t c = 0; c < spec.target_count(); ++c) {
      const double* from = drawn.data() + (path * spec.target_count() + c) * horizon_ + done + steps - kept;
      for (int64_t t = 0; t < kept; ++t) {
        rolling.set(path, spec.targets[static_cast<size_t>(c)], spec.lookback - kept + t, from[t], true);
      }
    }
  }

  ForecastValues summarise(const std::vector<double>& drawn, int64_t paths, const std::vector<double>& levels) const {
    const int64_t cells = trained_.model->forecast_spec().target_count() * horizon_;
    ForecastValues values;
    std::vector<double> sorted(static_cast<size_t>(paths));
    for (int64_t cell = 0; cell < cells; ++cell) {
      double sum = 0.0;
      for (int64_t p = 0; p < paths; ++p)
        sum += sorted[static_cast<size_t>(p)] = drawn[static_cast<size_t>(p * cells + cell)];
      values.point.push_back(sum / static_cast<double>(paths));
      std::sort(sorted.begin(), sorted.end());
      for (const double level : levels) {
        const double at = level * static_cast<double>(paths - 1);
        const auto low = static_cast<size_t>(at);
        const double part = at - static_cast<double>(low);
        values.quantiles.push_back(part == 0.0 ? sorted[low] : sorted[low] + part * (sorted[low + 1] - sorted[low]));
      }
    }
    return values;
  }

  TrainedForecaster& trained_;
  int64_t horizon_;
  const FutureOptions& options_;
};

// One series of the table: its rows up to the cutoff, channel by channel.
class Recent {
 public:
  Recent(const TrainedForecaster& trained, const SeriesTable& table, const Series& series, int64_t open_rows,
         std::vector<int64_t> places)
      : trained_(trained),
        table_(table),
        series_(series),
        places_(std::move(places)),
        rows_(series.rows() - open_rows) {
    const int64_t lookback = trained.model->forecast_spec().lookback;
    if (rows_ >= lookback) return;
    fail(ErrorKind::data, "{}{} observed rows, the model looks back {}; give more of the past",
         table.series.size() > 1 ? fmt::format("series '{}': ", series.id) : "", rows_, lookback);
  }

  int64_t rows() const { return rows_; }
  int64_t time(int64_t row) const { return series_.time[static_cast<size_t>(row)]; }
  bool observed(int64_t channel, int64_t row) const {
    const int64_t place = places_[static_cast<size_t>(channel)];
    if (place < 0) return false;
    const auto cell = static_cast<size_t>(row * static_cast<int64_t>(table_.channels.size()) + place);
    return series_.mask.empty() || series_.mask[cell] != 0;
  }
  double value(int64_t channel, int64_t row) const {
    const auto columns = static_cast<int64_t>(table_.channels.size());
    const int64_t place = places_[static_cast<size_t>(channel)];
    return observed(channel, row) ? static_cast<double>(series_.values[static_cast<size_t>(row * columns + place)])
                                  : kNaN;
  }
  // z units, the last observed value where there is none (0, the mean, before the first).
  std::vector<double> filled(int64_t channel) const {
    const ChannelScale& scale = trained_.facts.scale[static_cast<size_t>(channel)];
    std::vector<double> z;
    double last = 0.0;
    for (int64_t t = 0; t < rows_; ++t) {
      if (observed(channel, t)) last = (value(channel, t) - scale.mean) / scale.scale;
      z.push_back(last);
    }
    return z;
  }

 private:
  const TrainedForecaster& trained_;
  const SeriesTable& table_;
  const Series& series_;
  std::vector<int64_t> places_;
  int64_t rows_;
};

void load(const Recent& recent, const TrainedForecaster& trained, Rolling& rolling) {
  const ForecastSpec& spec = trained.model->forecast_spec();
  const int64_t first = recent.rows() - spec.lookback;
  for (int64_t c = 0; c < spec.channels; ++c) {
    const ChannelScale& scale = trained.facts.scale[static_cast<size_t>(c)];
    for (int64_t t = 0; t < spec.lookback; ++t) {
      const bool seen = recent.observed(c, first + t);
      rolling.set(0, c, t, seen ? (recent.value(c, first + t) - scale.mean) / scale.scale : 0.0, seen);
    }
  }
}

void add_baselines(const Recent& recent, const TrainedForecaster& trained, int64_t channel, int64_t horizon,
                   const LinearSolution* linear, ChannelForecast& out) {
  const ChannelScale& scale = trained.facts.scale[static_cast<size_t>(channel)];
  const std::vector<double> z = recent.filled(channel);
  const auto original = [&](double value) { return value * scale.scale + scale.mean; };
  const int64_t season = trained.facts.season;
  for (int64_t h = 0; h < horizon; ++h) {
    out.repeat_last.push_back(original(z.back()));
    if (season > recent.rows()) continue;
    out.seasonal_naive.push_back(original(z[static_cast<size_t>(recent.rows() - season + h % season)]));
  }
  if (linear == nullptr) return;
  std::vector<double> forecast(static_cast<size_t>(horizon));
  linear->forecast(std::span(z).last(static_cast<size_t>(linear->lookback)), 1, forecast);
  for (const double value : forecast) out.linear.push_back(original(value));
}

}  // namespace

FutureForecast forecast_future(TrainedForecaster& trained, const SeriesTable& recent, int64_t open_rows,
                               const FutureOptions& options) {
  const ForecastSpec& spec = trained.model->forecast_spec();
  const int64_t horizon = options.horizon > 0 ? options.horizon : spec.horizon;
  FutureForecast future;
  const std::vector<int64_t> places = match_channels(trained, recent, future.warnings);
  if (recent.frequency != trained.facts.frequency) {
    fail(ErrorKind::data, "the input has a row every {}, the model was trained on one every {}",
         to_string(recent.frequency), to_string(trained.facts.frequency));
  }
  future.levels = forecast_levels(spec.loss);
  if (horizon > spec.horizon) {
    future.warnings.push_back(fmt::format(
        "{} rows are more than the {} the model was trained for: the forecast is rolled out{}", horizon, spec.horizon,
        future.levels.empty() ? "" : fmt::format(", quantiles are of {} sample paths", options.paths)));
  }
  for (size_t s = 0; s < recent.series.size(); ++s) {
    const Series& series = recent.series[s];
    const Recent rows(trained, recent, series, open_rows, places);
    Rolling window(trained, 1);
    load(rows, trained, window);
    const ForecastValues values = [&] {
      if (horizon > spec.horizon) {
        return RollOut(trained, horizon, options).run(window, static_cast<int64_t>(s), future.levels);
      }
      ForecastValues direct;
      WindowForecaster(*trained.model, horizon).run(window.batch(), [&](int64_t, const ForecastValues& v) {
        direct = v;
      });
      return direct;
    }();
    const std::span<const int64_t> known(series.time.data(), static_cast<size_t>(rows.rows()));
    const int day = anchor_day(known);
    future.cutoff.push_back(known.back());
    future.time.emplace_back();
    for (int64_t h = 1; h <= horizon; ++h)
      future.time.back().push_back(advance(recent.frequency, known.back(), h, day));
    const auto lookback = static_cast<size_t>(spec.lookback);
    future.recent_time.emplace_back(known.end() - static_cast<std::ptrdiff_t>(lookback), known.end());
    for (size_t i = 0; i < spec.targets.size(); ++i) {
      const int64_t c = spec.targets[i];
      const ChannelScale& scale = trained.facts.scale[static_cast<size_t>(c)];
      const auto original = [&](double z) { return z * scale.scale + scale.mean; };
      ChannelForecast out;
      if (recent.series.size() > 1) out.series = series.id;
      out.channel = trained.facts.channels[static_cast<size_t>(c)].name;
      out.unit = trained.facts.channels[static_cast<size_t>(c)].unit;
      const size_t levels = future.levels.size(), first = i * static_cast<size_t>(horizon);
      for (size_t h = first; h < first + static_cast<size_t>(horizon); ++h) {
        out.mean.push_back(original(values.point[h]));
        for (size_t q = 0; q < levels; ++q) out.quantiles.push_back(original(values.quantiles[h * levels + q]));
      }
      add_baselines(rows, trained, c, horizon, options.linear, out);
      for (int64_t t = rows.rows() - spec.lookback; t < rows.rows(); ++t) out.recent.push_back(rows.value(c, t));
      future.channels.push_back(std::move(out));
      future.series_of.push_back(s);
    }
  }
  return future;
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string csv_number(double value) {
  if (!std::isfinite(value)) return {};
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), static_cast<float>(value)).ptr;
  return {buffer, end};
}

std::string to_csv(const FutureForecast& forecast, bool with_units) {
  std::string text = "unique_id,ds,cutoff,horizon,y,mean";
  for (const double level : forecast.levels) text += fmt::format(",q{}", csv_number(level));
  const auto any = [&](std::vector<double> ChannelForecast::*member) {
    return std::any_of(forecast.channels.begin(), forecast.channels.end(),
                       [&](const ChannelForecast& c) { return !(c.*member).empty(); });
  };
  std::vector<std::vector<double> ChannelForecast::*> baselines;
  for (const auto& [name, member] : {std::pair{"repeat_last", &ChannelForecast::repeat_last},
                                     {"seasonal_naive", &ChannelForecast::seasonal_naive},
                                     {"linear", &ChannelForecast::linear}}) {
    if (!any(member)) continue;
    text += std::string(",") + name;
    baselines.push_back(member);
  }
  if (with_units) text += ",unit";
  text += '\n';
  const size_t levels = forecast.levels.size();
  for (size_t i = 0; i < forecast.channels.size(); ++i) {
    const ChannelForecast& c = forecast.channels[i];
    const size_t s = forecast.series_of[i];
    const std::string id = csv_cell(c.series.empty() ? c.channel : c.series + "/" + c.channel);
    const std::string cutoff = iso_time(forecast.cutoff[s]);
    for (size_t h = 0; h < c.mean.size(); ++h) {
      text += fmt::format("{},{},{},{},,{}", id, iso_time(forecast.time[s][h]), cutoff, h + 1, csv_number(c.mean[h]));
      for (size_t q = 0; q < levels; ++q) text += fmt::format(",{}", csv_number(c.quantiles[h * levels + q]));
      for (const auto member : baselines)
        text += fmt::format(",{}", (c.*member).empty() ? "" : csv_number((c.*member)[h]));
      if (with_units) text += fmt::format(",{}", csv_cell(c.unit));
      text += '\n';
    }
  }
  return text;
}

}  // namespace farsight
