// SPDX-License-Identifier: Apache-2.0
// Whole runs of forecasters: how good they get on a series whose best forecast is known, early stopping, stop and
// resume, what a checkpoint holds; and that no forecast knows what comes after its window.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/data/scratch.h"
#include "tests/forecast/forecast_case.h"
#include "tests/forecast/synthetic_series.h"
#include "trainer/checkpoint/checkpoint_directory.h"
#include "trainer/checkpoint/load.h"
#include "trainer/forecast/evaluation.h"
#include "trainer/run_directory.h"
#include "trainer/signals.h"
#include "trainer/train.h"

namespace farsight {
namespace {

namespace fs = std::filesystem;
using Overrides = std::vector<std::string>;
using Losses = std::map<int64_t, double>;

Overrides operator+(Overrides a, const Overrides& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class ForecastTraining : public testing::Test {
 protected:
  void SetUp() override { clear_stop_request(); }
  void TearDown() override { clear_stop_request(); }

  std::string dir(const std::string& run) const { return scratch_.path(run); }
  std::string checkpoints(const std::string& run) const { return dir(run) + "/checkpoints"; }

  TrainOutcome train_on(int ranks, const std::string& run, const std::string& series, const Overrides& overrides,
                        const std::string& resume = "never") {
    TrainRequest request;
    request.config = forecast_config(series, overrides + Overrides{"run.dir=" + dir(run)});
    request.resume = parse_resume(resume);
    request.files = series_dataset(series);
    TrainOutcome outcome;
    said_.str("");
    run_in_process(ranks, [&](Communicator& world) {
      std::ostringstream quiet;
      const TrainOutcome mine = train(world, request, world.rank() == 0 ? static_cast<std::ostream&>(said_) : quiet);
      if (world.rank() == 0) outcome = mine;
    });
    return outcome;
  }

  // step -> value of the lines of a split; fails on a step that appears twice.
  Losses logged(const std::string& run, const std::string& split, const char* what = "loss") const {
    Losses out;
    std::ifstream in(dir(run) + "/metrics.jsonl");
    for (std::string line; std::getline(in, line);) {
      const auto j = nlohmann::json::parse(line);
      if (j.at("split") != split) continue;
      EXPECT_TRUE(out.emplace(j.at("step").get<int64_t>(), j.at(what).get<double>()).second) << line;
    }
    return out;
  }

  TrainedForecaster trained(const std::string& run, int64_t step = -1) const {
    const RunReference reference = find_run(step < 0 ? dir(run) : checkpoints(run) + "/" + step_name(step));
    return load_trained_forecaster(reference, run_config(reference));
  }

  std::vector<float> weights(const std::string& run, int64_t step = -1) const {
    const TrainedForecaster model = trained(run, step);
    const auto values = model.model->parameters().values().span<float>();
    return {values.begin(), values.end()};
  }

  ForecastEvaluation evaluate(const std::string& run, const std::string& series, const std::string& split) const {
    TrainedForecaster model = trained(run);
    const auto open = [&](const std::string& name) {
      const auto files = std::make_shared<SeriesFiles>(std::vector{describe_series(series)}, SeriesAccess{});
      return SeriesWindows(files, window_options(model.config, model.facts, name));
    };
    SeriesWindows train = open("train"), windows = open(split);
    EvaluationOptions options;
    options.baselines = {.baselines = {Baseline::repeat_last, Baseline::linear}, .season = 24, .drop_last = 0};
    return evaluate_forecaster(*model.model, train, windows, options, *make_self_communicator(), {});
  }

  std::set<int64_t> kept_steps(const std::string& run) const {
    std::set<int64_t> steps;
    for (const Candidate& c : list_checkpoints(*make_posix_file_system(), checkpoints(run))) steps.insert(c.step);
    return steps;
  }

  Scratch scratch_;
  std::ostringstream said_;
};

const Overrides kWide{"data.lookback=96", "data.horizon=24", "train.batch=64 samples"};
const Overrides kLinear{"model.kind=linear"};

TEST_F(ForecastTraining, NLinearReachesTheLeastSquaresSolution) {
  const std::string series = write_synthetic(scratch_.path("s.h5"));
  train_on(1, "run", series,
           kLinear + kWide +
               Overrides{"train.steps=6000 steps", "optim.lr=5e-3", "optim.schedule=cosine", "log.every=1000 steps"});
  const ForecastEvaluation result = evaluate("run", series, "test");
  ASSERT_EQ(result.rows.back().name, "linear");
  const double model = result.rows.front().metrics.total().mse, best = result.rows.back().metrics.total().mse;
  EXPECT_NEAR(best, .012474, 1e-5);
  EXPECT_LE(model, 1.05 * best);
  EXPECT_EQ(result.windows, 2857);
}

TEST_F(ForecastTraining, TheClosedFormNeedsNoStep) {
  const std::string series = write_synthetic(scratch_.path("s.h5"));
  const Overrides solved =
      kLinear + kWide + Overrides{"model.solver=closed_form", "eval.every=1 epochs", "data.io=pread"};
  const TrainOutcome outcome = train_on(1, "one", series, solved);
  EXPECT_EQ(outcome.step, 0);
  const MetricValues one = evaluate("one", series, "test").rows.front().metrics.total();
  EXPECT_NEAR(one.mse, .012474, 1e-5);
  EXPECT_NEAR(one.mae, .094218, 1e-5);
  EXPECT_NEAR(logged("one", "valid").at(0), outcome.valid_loss, 1e-12);
  EXPECT_NEAR(outcome.valid_loss, evaluate("one", series, "valid").rows.front().metrics.total().mse, 1e-7);
  train_on(2, "two", series, solved);
  const MetricValues two = evaluate("two", series, "test").rows.front().metrics.total();
  EXPECT_NEAR(two.mse / one.mse, 1.0, 1e-6);
}

// The noise is uniform in +-0.5: its quantiles of 10 and 90 % are 0.8 apart.
TEST_F(ForecastTraining, QuantilesCoverWhatTheySay) {
  const std::string series = write_synthetic(scratch_.path("s.h5"));
  train_on(1, "run", series,
           kLinear + kWide +
               Overrides{"loss.kind=quantile", "loss.levels=[0.1, 0.5, 0.9]", "train.steps=3000 steps", "optim.lr=3e-3",
                         "optim.schedule=cosine", "log.every=1000 steps"});
  const MetricValues found = evaluate("run", series, "test").rows.front().metrics.total();
  ASSERT_EQ(found.intervals.size(), 1U);
  EXPECT_NEAR(found.intervals[0].coverage, .80, .03);
  EXPECT_NEAR(found.intervals[0].width, .8, .1);
}

// Validation gets worse once the rate is far too high for the few rows.
TEST_F(ForecastTraining, EndsWhenPatienceIsOverAndKeepsTheBest) {
  const Overrides options{"train.steps=200 steps", "train.patience=3",         "eval.every=2 steps",
                          "checkpoint.keep=1",     "checkpoint.every=2 steps", "optim.lr=2e-2"};
  const TrainOutcome outcome = train_on(2, "run", short_series(), kLinear + options);
  const Losses valid = logged("run", "valid");
  ASSERT_FALSE(valid.empty());
  // By the definition, from the log.
  int64_t best = -1, worse = 0, last = -1;
  for (const auto& [step, loss] : valid) {
    EXPECT_LT(worse, 3) << "went on at step " << step;
    worse = best < 0 || loss < valid.at(best) ? 0 : worse + 1;
    if (worse == 0) best = step;
    last = step;
  }
  EXPECT_EQ(worse, 3);
  EXPECT_GT(best, 2);
  EXPECT_LT(last, 200);
  EXPECT_EQ(outcome.step, last);
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(best_step(*make_posix_file_system(), checkpoints("run")), best);
  EXPECT_EQ(kept_steps("run"), (std::set<int64_t>{best, last}));  // saves go on beside training
  EXPECT_NE(said_.str().find("best at step " + std::to_string(best)), std::string::npos) << said_.str();
  // What is loaded is the best one, not the newest.
  EXPECT_EQ(trained("run").step, best);
  EXPECT_EQ(weights("run"), weights("run", best));
  EXPECT_NE(weights("run"), weights("run", last));
  EXPECT_NEAR(evaluate("run", short_series(), "valid").rows.front().metrics.total().mse / valid.at(best), 1.0, 1e-6);
}

class Resuming : public ForecastTraining {
 protected:
  // As if the process had been killed after the checkpoint of `step`.
  void cut(const std::string& from, const std::string& to, int64_t step) const {
    fs::copy(dir(from), dir(to), fs::copy_options::recursive);
    for (const int64_t later : kept_steps(to)) {
      if (later > step) fs::remove_all(checkpoints(to) + "/" + step_name(later));
    }
    for (const char* name : {kLatestName, kHealthyName, kBestName}) fs::remove(checkpoints(to) + "/" + name);
  }
  BestLoss saved_best(const std::string& run, int64_t step) const {
    BestLoss best;
    best.load(read_manifest(*make_posix_file_system(), checkpoints(run) + "/" + step_name(step)).state.loss_statistics);
    return best;
  }
};

// 121 training windows in batches of 12: step 15 lies in the middle of the second epoch.
TEST_F(Resuming, GoesOnBitForBit) {
  const Overrides options{"train.steps=30 steps",   "eval.every=5 steps",  "checkpoint.every=5 steps",
                          "checkpoint.keep=20",     "train.patience=100",  "optim.schedule=type3_onecycle",
                          "checkpoint.async=false", "loss.kind=student_t", "parallel.data=2"};
  train_on(2, "whole", short_series(), options);
  cut("whole", "parts", 15);
  const TrainOutcome outcome = train_on(2, "parts", short_series(), options, "auto");
  EXPECT_EQ(outcome.step, 30);
  EXPECT_NE(said_.str().find("step 15"), std::string::npos) << said_.str();
  EXPECT_EQ(logged("whole", "train").size(), 30U);
  EXPECT_EQ(logged("whole", "valid").size(), 6U);
  EXPECT_EQ(logged("parts", "train"), logged("whole", "train"));
  EXPECT_EQ(logged("parts", "valid"), logged("whole", "valid"));
  EXPECT_EQ(weights("parts", 30), weights("whole", 30));
  // On other ranks with sharded state: the same numbers, but for the order of sums.
  cut("whole", "others", 15);
  Overrides other = options;
  other.back() = "parallel.data=3";
  train_on(3, "others", short_series(), other + Overrides{"parallel.zero=3"}, "auto");
  const Losses expected = logged("whole", "train"), found = logged("others", "train");
  EXPECT_NEAR(found.at(16) / expected.at(16), 1.0, 1e-6);
  for (const auto& [step, loss] : expected) EXPECT_NEAR(found.at(step) / loss, 1.0, 1e-4) << step;
}

TEST_F(Resuming, KnowsTheBestAndHowLongAgoItWas) {
  const Overrides options{"train.steps=200 steps",    "train.patience=5",      "eval.every=2 steps",
                          "checkpoint.keep=100",      "optim.lr=2e-2",         "model.kind=linear",
                          "checkpoint.every=2 steps", "checkpoint.async=false"};
  const TrainOutcome whole = train_on(1, "whole", short_series(), options);
  const int64_t end = whole.step, middle = end - 4;  // three of five bad evaluations have happened
  const BestLoss before = saved_best("whole", middle);
  EXPECT_EQ(before.worse(), 3);
  EXPECT_EQ(before.step(), end - 10);
  EXPECT_EQ(before.loss(), logged("whole", "valid").at(end - 10));
  cut("whole", "parts", middle);
  const TrainOutcome parts = train_on(1, "parts", short_series(), options, "auto");
  EXPECT_EQ(parts.step, end);
  EXPECT_EQ(logged("parts", "valid"), logged("whole", "valid"));
  EXPECT_EQ(saved_best("parts", end).worse(), 5);
  EXPECT_EQ(best_step(*make_posix_file_system(), checkpoints("parts")), end - 10);
  EXPECT_EQ(trained("parts").step, end - 10);
  // A run that has ended so is not begun again.
  EXPECT_EQ(train_on(1, "parts", short_series(), options, "auto").step, end);
  EXPECT_EQ(logged("parts", "valid"), logged("whole", "valid"));
}

TEST_F(Resuming, AStopOnRequestKeepsEverything) {
  const Overrides options{"train.steps=6 steps", "eval.every=1 steps", "train.patience=100"};
  train_on(1, "whole", short_series(), options);
  raise_stop_request(StopRequest::save);
  EXPECT_EQ(train_on(1, "parts", short_series(), options).exit_code, 85);
  clear_stop_request();
  EXPECT_EQ(train_on(1, "parts", short_series(), options, "auto").exit_code, 0);
  EXPECT_EQ(logged("parts", "train"), logged("whole", "train"));
  EXPECT_EQ(logged("parts", "valid"), logged("whole", "valid"));
}

TEST_F(ForecastTraining, RunningAveragesAreInCheckpoints) {
  train_on(2, "run", short_series(), {"train.steps=4 steps", "parallel.zero=3", "eval.every=4 steps"});
  const TrainedForecaster model = trained("run");
  int64_t averages = 0;
  for (const Parameter& p : model.model->parameters().parameters()) {
    if (p.average == 0.0) continue;
    ++averages;
    const float begin = p.name.ends_with("running_var") ? 1.0F : 0.0F;
    for (const float value : p.value.span<float>()) {
      EXPECT_NE(value, begin) << p.name;
      EXPECT_GT(value, begin == 1.0F ? 0.0F : -INFINITY) << p.name;
    }
  }
  EXPECT_EQ(averages, 8);
  // The evaluation with loaded averages gives what the run itself measured.
  const MetricValues found = evaluate("run", short_series(), "valid").rows.front().metrics.total();
  EXPECT_NEAR(found.mse / logged("run", "valid", "mse").at(4), 1.0, 1e-6);
  EXPECT_NEAR(found.mae / logged("run", "valid", "mae").at(4), 1.0, 1e-6);
}

TEST_F(ForecastTraining, ValidationIsTheSameOnAnyNumberOfRanks) {
  // 53 windows: not a multiple of any batch here.
  Losses first;
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string run = "run" + std::to_string(ranks);
    train_on(ranks, run, short_series(), {"train.steps=2 steps", "eval.every=1 steps", "loss.kind=gaussian"});
    const Losses valid = logged(run, "valid"), mse = logged(run, "valid", "mse");
    if (ranks == 1) first = valid;
    for (const auto& [step, loss] : first) EXPECT_NEAR(valid.at(step) / loss, 1.0, 1e-6) << ranks << " " << step;
    const MetricValues found = evaluate(run, short_series(), "valid").rows.front().metrics.total();
    EXPECT_EQ(found.count, 53.0 * 3 * 12);
    EXPECT_NEAR(found.mse / mse.at(2), 1.0, 1e-6) << ranks;
  }
}

// Nothing behind the training rows moves the scaler, the weights or what the run knows of the data.
TEST_F(ForecastTraining, TrainingDoesNotSeeWhatComesAfter) {
  SeriesTable other = synthetic_table(320);
  const int64_t end = other.splits.at("train").front().end;
  for (size_t i = static_cast<size_t>(end * kSyntheticChannels); i < other.series[0].values.size(); ++i) {
    other.series[0].values[i] = 1000.0F - 3.0F * other.series[0].values[i];
  }
  const std::string changed = write_synthetic(scratch_.path("other.h5"), other);
  const Overrides options{"train.steps=12 steps"};
  train_on(1, "a", short_series(), options);
  train_on(1, "b", changed, options);
  EXPECT_EQ(weights("a"), weights("b"));
  EXPECT_EQ(trained("a").facts.scale, trained("b").facts.scale);
  EXPECT_EQ(Scratch::read(dir("a") + "/forecast.json"), Scratch::read(dir("b") + "/forecast.json"));
}

// Forecasts of one window of `table`, z units of `model`.
std::vector<double> forecast_of(TrainedForecaster& model, const std::string& path, const SeriesTable& table,
                                int64_t window) {
  const auto files =
      std::make_shared<SeriesFiles>(std::vector{describe_series(write_synthetic(path, table))}, SeriesAccess{});
  SeriesWindows windows(files, window_options(model.config, model.facts, "test"));
  const MicroBatch batch = [&] {
    MicroBatch one = windows.make_batch(1);
    windows.read(window, 0, one);
    one.sample_ids = {0};
    return one;
  }();
  std::vector<double> out;
  WindowForecaster(*model.model, model.config.data.horizon).run(batch, [&](int64_t, const ForecastValues& values) {
    out = values.point;
    out.insert(out.end(), values.quantiles.begin(), values.quantiles.end());
  });
  return out;
}

TEST(Leaks, AForecastDependsOnItsLookBackOnly) {
  const Scratch scratch;
  for (const Overrides& options : {Overrides{"loss.kind=mixture"},
                                   {"model.norm=layer"},
                                   {"model.kind=linear"},
                                   {"model.kind=linear", "model.form=dlinear"}}) {
    TrainedForecaster model = untrained_forecaster(forecast_config(short_series(), options));
    shake(*model.model, 0.2);
    constexpr int64_t kWindow = 20;
    const SeriesTable table = synthetic_table(320);
    const int64_t first = table.splits.at("test").front().begin + kWindow;  // t0
    const auto with_change = [&](int64_t row) {
      SeriesTable changed = table;
      for (auto i = static_cast<size_t>(row * kSyntheticChannels); i < changed.series[0].values.size(); ++i) {
        changed.series[0].values[i] += 5.0F;
      }
      return changed;
    };
    const auto forecast = [&](const SeriesTable& t) { return forecast_of(model, scratch.path("t.h5"), t, kWindow); };
    const std::vector<double> plain = forecast(table);
    EXPECT_EQ(forecast(with_change(first)), plain) << options.front();
    EXPECT_NE(forecast(with_change(first - 1)), plain) << options.front();
    // The first row of the look-back still matters, the one before it does not.
    SeriesTable early = table;
    const auto cell = static_cast<size_t>((first - 49) * kSyntheticChannels);
    early.series[0].values[cell] += 5.0F;
    EXPECT_EQ(forecast(early), plain) << options.front();
    early.series[0].values[cell + kSyntheticChannels] += 5.0F;
    EXPECT_NE(forecast(early), plain) << options.front();
  }
}

// forecast(a x + b) = a forecast(x) + b: windows of standard deviation >= 1 keep it to 1e-3.
TEST(InstanceNorm, MakesForecastsEquivariant) {
  for (const Overrides& options : {Overrides{"loss.kind=quantile"},
                                   {"loss.kind=gaussian"},
                                   {"model.instance_affine=true"},
                                   {"model.norm=layer", "model.residual_attention=false"}}) {
    TrainedForecaster model = untrained_forecaster(forecast_config(short_series(), options));
    shake(*model.model, 0.2);
    const auto forecast = [&](double a, double b) {
      MicroBatch batch;
      batch.windows.past = Tensor::empty({1, kSyntheticChannels, 48}, DType::f32, MemoryTag::data, Device::cpu);
      batch.sample_ids = {0};
      for (int64_t i = 0; i < kSyntheticChannels * 48; ++i) {
        batch.windows.past.data<float>()[i] = static_cast<float>(a * synthetic_value(i % 48, i / 48) + b);
      }
      std::vector<double> out;
      WindowForecaster(*model.model, 12).run(batch, [&](int64_t, const ForecastValues& values) {
        out = values.point;
        out.insert(out.end(), values.quantiles.begin(), values.quantiles.end());
      });
      return out;
    };
    const std::vector<double> plain = forecast(1.0, 0.0);
    for (const double a : {0.1, 10.0}) {
      for (const double b : {-50.0, 50.0}) {
        const std::vector<double> found = forecast(a, b);
        ASSERT_EQ(found.size(), plain.size());
        for (size_t i = 0; i < plain.size(); ++i) {
          // Relative to the spread of the window (about 2.5), a stricter measure than the value itself.
          ASSERT_NEAR((found[i] - b) / a, plain[i], 2.5e-3) << options.front() << " " << a << " " << b << " " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace farsight
