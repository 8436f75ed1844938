// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/inspect_baselines.h"

#include <algorithm>
#include <ostream>

#include "data/file.h"
#include "kernels/error.h"
#include "parallel/comm.h"

namespace farsight {

namespace {

// The fewest rows before a window.
int64_t shortest_past(const SeriesWindows& windows) {
  int64_t rows = INT64_MAX;
  for (int64_t w = 0; w < windows.samples(); ++w) rows = std::min(rows, windows.window(w).first_target);
  return rows;
}

class Measurement {
 public:
  Measurement(const SeriesDescriptor& file, const BaselineRequest& request)
      : file_(file), files_(std::make_shared<SeriesFiles>(std::vector{file}, SeriesAccess{})) {
    table_.request = request;
    if (request.season == 0) table_.request.season = usual_season(file.frequency);
    table_.channels = file.channel_count();
  }

  BaselineTable run() {
    for (const int64_t lookback : table_.request.lookbacks) {
      for (const int64_t horizon : table_.request.horizons) add(lookback, horizon);
    }
    return std::move(table_);
  }

 private:
  SeriesWindows windows(const std::string& split, int64_t lookback, int64_t horizon) const {
    return {files_, {.split = split, .lookback = lookback, .horizon = horizon, .scale = pooled_scale({file_})}};
  }

  void add(int64_t lookback, int64_t horizon) {
    const BaselineRequest& request = table_.request;
    SeriesWindows test = windows(request.split, lookback, horizon);
    table_.targets = static_cast<int64_t>(test.options().targets.size());
    const int64_t used = evaluated_windows(test.samples(), request.drop_last);
    if (used == 0) {
      fail(ErrorKind::usage, "--drop-last={}: the split '{}' has {} windows, no full batch", request.drop_last,
           request.split, test.samples());
    }
    const std::string at = fmt::format("look-back {}, horizon {}", lookback, horizon);
    BaselineOptions options{.baselines = possible(test, at), .season = request.season, .drop_last = request.drop_last};
    for (const BaselineResult& result : evaluate(test, options, at)) {
      table_.rows.push_back({lookback, horizon, used, test.samples(), result.baseline, result.metrics.total()});
    }
  }

  std::vector<Baseline> possible(const SeriesWindows& test, const std::string& at) {
    std::vector<Baseline> baselines;
    for (const Baseline baseline : kAllBaselines) {
      const std::string why = obstacle(baseline, test);
      if (why.empty()) {
        baselines.push_back(baseline);
      } else {
        table_.notes.push_back(fmt::format("{}: {} is left out: {}", at, to_string(baseline), why));
      }
    }
    return baselines;
  }

  std::string obstacle(Baseline baseline, const SeriesWindows& test) const {
    const int64_t lookback = test.options().lookback, season = table_.request.season;
    if (baseline == Baseline::linear && lookback > kMostLinearLookback) {
      return fmt::format("it takes look-backs of at most {} rows", kMostLinearLookback);
    }
    if (baseline != Baseline::seasonal_naive || season <= lookback) return "";
    const int64_t past = shortest_past(test);
    if (season <= past) return "";
    return fmt::format("a season of {} rows, but only {} lie before the first window", season, past);
  }

  std::vector<BaselineResult> evaluate(SeriesWindows& test, BaselineOptions& options, const std::string& at) {
    const auto self = make_self_communicator();
    const auto linear = std::find(options.baselines.begin(), options.baselines.end(), Baseline::linear);
    if (linear != options.baselines.end()) {
      try {
        SeriesWindows train = windows("train", test.options().lookback, test.options().horizon);
        return evaluate_baselines(train, test, options, *self);
      } catch (const Error& error) {  // too short a training split, or gaps everywhere
        if (error.kind() != ErrorKind::data) throw;
        table_.notes.push_back(fmt::format("{}: linear is left out: {}", at, error.what()));
        options.baselines.erase(linear);
      }
    }
    return evaluate_baselines(test, test, options, *self);  // without `linear` nothing is trained
  }

  const SeriesDescriptor& file_;
  std::shared_ptr<SeriesFiles> files_;
  BaselineTable table_;
};

std::string number_or_none(const std::optional<double>& value) { return value ? fmt::format("{:.4f}", *value) : "n/a"; }

void print_row(const BaselineRow& row, std::ostream& out) {
  const MetricValues& v = row.values;
  out << fmt::format("{:>9} {:>8} {:>11}  {:15}", row.lookback, row.horizon, with_commas(row.windows),
                     to_string(row.baseline));
  if (v.count == 0.0) {
    out << " no target was observed\n";
    return;
  }
  out << fmt::format("{:>12.6f} {:>11.6f} {:>#12.6g} {:>10} {:>10.4f}\n", v.mse, v.mae, v.mae_original,
                     number_or_none(v.mase), v.smape);
}

}  // namespace

BaselineTable measure_baselines(const SeriesDescriptor& file, const BaselineRequest& request) {
  return Measurement(file, request).run();
}

void print_baselines(const BaselineTable& table, std::ostream& out) {
  const BaselineRequest& request = table.request;
  out << fmt::format("baselines on split {}: {} of {} channels, season {} rows", request.split, table.targets,
                     table.channels, request.season);
  if (request.drop_last > 0) {
    out << fmt::format(", without the windows after the last full batch of {}", request.drop_last);
  }
  out << fmt::format("\n{:>9} {:>8} {:>11}  {:15}{:>12} {:>11} {:>12} {:>10} {:>10}\n", "look-back", "horizon",
                     "windows", "forecast", "MSE (z)", "MAE (z)", "MAE", "MASE", "sMAPE");
  int64_t left_out = 0;
  for (const BaselineRow& row : table.rows) {
    print_row(row, out);
    left_out = std::max(left_out, row.values.mase_channels_left_out);
  }
  out << "z: by the training statistics of each channel; MAE and sMAPE: in the units of the file; all are means over "
         "windows, steps and channels\n";
  if (left_out > 0) {
    out << fmt::format(
        "note: MASE leaves out {} of {} channels, whose training rows do not change from season to season\n", left_out,
        table.targets);
  }
  for (const std::string& note : table.notes) out << "note: " << note << '\n';
}

}  // namespace farsight
