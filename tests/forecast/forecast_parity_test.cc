// SPDX-License-Identifier: Apache-2.0
// One configuration of a forecaster gives the same numbers on any number of data-parallel ranks, for every model, head
// and norm, and on a device.
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cuda/library.h"
#include "parallel/comm.h"
#include "tests/forecast/forecast_case.h"
#include "tests/parity/parity_case.h"
#include "tests/sanitized.h"
#include "trainer/layout_trainer.h"
#include "trainer/verify_gradients.h"

namespace farsight {
namespace {

using Overrides = std::vector<std::string>;

Overrides operator+(Overrides a, const Overrides& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Place {
  const char* name;
  int ranks;
  Overrides overrides;
};

// m: passes of fewer windows, which batch norms do not allow.
const std::vector<Place> kOnePass{{"dp2", 2, {"parallel.data=2"}},
                                  {"dp3", 3, {"parallel.data=3"}},
                                  {"dp4", 4, {"parallel.data=4"}},
                                  {"dp2z1", 2, {"parallel.data=2", "parallel.zero=1"}},
                                  {"dp3z2", 3, {"parallel.data=3", "parallel.zero=2"}},
                                  {"dp2z3", 2, {"parallel.data=2", "parallel.zero=3"}},
                                  {"dp4z3g2", 4, {"parallel.data=4", "parallel.zero=3", "parallel.zero_group=2"}}};
const std::vector<Place> kSeveralPasses{{"dp1m4", 1, {"parallel.data=1", "train.micro_batch=4"}},
                                        {"dp2m3", 2, {"parallel.data=2", "train.micro_batch=3"}},
                                        {"dp3z3m2", 3, {"parallel.data=3", "parallel.zero=3", "train.micro_batch=2"}}};

LayoutRun run_on(const Overrides& overrides, int ranks, RunsOn place = RunsOn::cpu) {
  const Config config = forecast_config(short_series(), overrides);
  return run_in_layout(to_toml(config), {}, ranks, series_dataset(short_series()), /*steps=*/3, place);
}

// Running averages follow the batches: after the last step, not only in the gradient of the first.
double worst_average(const LayoutRun& run, const LayoutRun& reference, int64_t& averages) {
  double worst = 0.0;
  averages = 0;
  for (const auto& [name, values] : reference.weights) {
    if (name.find(".running_") == std::string::npos) continue;
    ++averages;
    EXPECT_NE(values, reference.initial.at(name)) << name << " stays where it began";
    worst = std::max(worst, relative_difference(run.weights.at(name), values, 1e-2));
  }
  return worst;
}

// One rank, and how far rounding alone moves its gradients: those of key biases are zero in theory.
struct Reference {
  explicit Reference(const Overrides& model) : run(run_on(model, 1)) {
    const auto world = make_self_communicator();
    LayoutTrainer trainer(*world, forecast_config(short_series(), model), series_dataset(short_series()));
    rounding = gradient_rounding(trainer, run.gradients);
  }
  LayoutRun run;
  std::map<std::string, double> rounding;
};

void expect_same(const LayoutRun& run, const Reference& one, bool batch_norm, const std::string& what) {
  const LayoutRun& reference = one.run;
  const Agreement agreement = compare(run, reference, one.rounding);
  int64_t averages = 0;
  const double average = worst_average(run, reference, averages);
  std::printf("%-32s loss %.1e  gradient %.1e (%s)  losses %.1e  averages %.1e\n", what.c_str(), agreement.first_loss,
              agreement.worst_gradient, agreement.gradient_tensor.c_str(), agreement.last_loss, average);
  EXPECT_EQ(disagreement(agreement), "") << what;
  EXPECT_EQ(averages, batch_norm ? 8 : 0) << what;  // two of each of two norms in two layers
  EXPECT_LE(average, 1e-4) << what;
}

void expect_parity(const Overrides& model, const std::vector<Place>& places, bool batch_norm) {
  const Reference reference(model);
  ASSERT_EQ(reference.run.samples.size(), 3U);
  EXPECT_EQ(reference.run.samples.front().size(), 12U);
  std::string what;
  for (const std::string& text : model) what.append(text, text.find('=') + 1).append(" ");
  for (const Place& place : places) {
    if (kSanitized && place.ranks != 2) continue;
    expect_same(run_on(model + place.overrides, place.ranks), reference, batch_norm, what + place.name);
  }
}

std::vector<Place> all_places() {
  std::vector<Place> all = kOnePass;
  all.insert(all.end(), kSeveralPasses.begin(), kSeveralPasses.end());
  return all;
}

TEST(ForecastParity, PatchTstWithSynchronisedBatchNorms) {
  for (const char* residual : {"true", "false"}) {
    expect_parity({std::string("model.residual_attention=") + residual}, kOnePass, /*batch_norm=*/true);
  }
}

TEST(ForecastParity, PatchTstWithLayerNormsInSeveralPasses) {
  for (const char* residual : {"true", "false"}) {
    expect_parity({"model.norm=layer", std::string("model.residual_attention=") + residual}, all_places(),
                  /*batch_norm=*/false);
  }
}

// With the affine instance norm, whose parameters every head uses in its own way.
TEST(ForecastParity, EveryHead) {
  const std::vector<Place> some{kOnePass[1], kOnePass[5]};
  for (const char* kind : {"mse", "mae", "huber", "quantile", "gaussian", "student_t", "mixture"}) {
    expect_parity({std::string("loss.kind=") + kind, "model.instance_affine=true"}, some, /*batch_norm=*/true);
  }
}

TEST(ForecastParity, LinearModels) {
  for (const char* form : {"nlinear", "dlinear"}) {
    for (const char* individual : {"false", "true"}) {
      expect_parity(
          {"model.kind=linear", std::string("model.form=") + form, std::string("model.individual=") + individual},
          all_places(), /*batch_norm=*/false);
    }
  }
}

TEST(ForecastParity, SomeChannelsAndNoInstanceNorm) {
  expect_parity({"data.targets=[\"c\", \"a\"]", "data.covariates=ignore", "model.instance_norm=false", "data.stride=2"},
                {kOnePass[0], kOnePass[5]}, /*batch_norm=*/true);
}

// Options that a model forgot would agree with themselves in every layout.
TEST(ForecastParity, EveryOptionMatters) {
  const auto first_loss = [](const Overrides& overrides) { return run_on(overrides, 1).losses.front(); };
  const double plain = first_loss({});
  for (const char* option :
       {"model.residual_attention=false", "model.norm=layer", "model.norm_eps=0.1", "model.dropout=0",
        "model.instance_norm=false", "model.heads=4", "loss.kind=mae", "data.normalise=none"}) {
    EXPECT_NE(first_loss({option}), plain) << option;
  }
  const Overrides linear{"model.kind=linear"};
  for (const char* option : {"model.form=dlinear", "model.individual=true", "data.stride=2"}) {
    EXPECT_NE(first_loss(linear + Overrides{option}), first_loss(linear)) << option;
  }
}

TEST(ForecastParity, ADeviceEqualsTheCpu) {
  if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
  for (const Overrides& model : {Overrides{"loss.kind=quantile"},
                                 {"loss.kind=student_t", "model.norm=layer", "model.instance_affine=true"},
                                 {"model.kind=linear", "model.form=dlinear", "model.individual=true"}}) {
    const bool batch_norm = model.size() == 1;
    const Reference reference(model);
    expect_same(run_on(model, 1, RunsOn::device_staged), reference, batch_norm, model.front() + " device");
    if (kSanitized) continue;
    const Overrides zero{"parallel.data=2", "parallel.zero=2"};
    expect_same(run_on(model + zero, 2, RunsOn::device_staged), reference, batch_norm, model.front() + " two devices");
  }
}

}  // namespace
}  // namespace farsight
