// SPDX-License-Identifier: Apache-2.0
// Gradients of whole forecasters against differences of their loss: every model and every head.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/comm.h"
#include "tests/forecast/forecast_case.h"
#include "trainer/verify_gradients.h"

namespace farsight {
namespace {

GradientReport gradients_of(std::vector<std::string> overrides, double spoiled = 0.0) {
  overrides.insert(overrides.end(), {"train.batch=3 samples", "data.horizon=6"});
  const Config config = forecast_config(short_series(), overrides);
  const auto world = make_self_communicator();
  LayoutTrainer trainer(*world, config, series_dataset(short_series()));
  shake(dynamic_cast<Forecaster&>(trainer.model()), 0.1);
  trainer.accumulate();
  NamedTensors gradients;
  for (const Parameter& p : trainer.model().parameters().parameters()) {
    const auto gradient = p.grad.span<float>();
    auto& copy = gradients[p.name];
    copy.assign(gradient.begin(), gradient.end());
    for (float& g : copy) g *= static_cast<float>(1.0 + spoiled);
  }
  return check_gradients(trainer, gradients, /*directions=*/2, [](const std::string&) {});
}

void expect_right(const std::vector<std::string>& overrides, size_t tensors) {
  std::string what;
  for (const std::string& text : overrides) what += text + " ";
  const GradientReport report = gradients_of(overrides);
  EXPECT_EQ(report.rows.size(), tensors) << what;
  size_t clear = 0;
  double worst = 0.0;
  for (const GradientRow& row : report.rows) {
    EXPECT_TRUE(row.verdict() != Verdict::wrong)
        << what << row.tensor << ": " << row.expected << ", measured " << row.measured << " +- " << row.error;
    clear += row.verdict() == Verdict::ok ? 1 : 0;
    if (row.verdict() == Verdict::ok) worst = std::max(worst, row.difference);
  }
  std::printf("%s: %zu of %zu clear, worst %.1e\n", what.c_str(), clear, report.rows.size(), worst);
  EXPECT_GE(clear, report.rows.size() * 3 / 4) << what;
}

// Of a layer: 4 projections with bias, 2 norms and 2 maps of the MLP with 2 tensors each; outside: embedding, position,
// head. Running averages have no gradient.
constexpr size_t kPatchTst = 2 * 16 + 5;

TEST(ForecastGradients, PatchTst) {
  for (const char* norm : {"sync_batch", "layer"}) {
    for (const char* residual : {"true", "false"}) {
      expect_right({std::string("model.norm=") + norm, std::string("model.residual_attention=") + residual}, kPatchTst);
    }
  }
}

TEST(ForecastGradients, EveryHead) {
  for (const char* kind : {"mae", "huber", "quantile", "gaussian", "student_t", "mixture"}) {
    expect_right({std::string("loss.kind=") + kind, "model.instance_affine=true"}, kPatchTst + 2);
    expect_right({"model.kind=linear", std::string("loss.kind=") + kind}, 2);
  }
  expect_right({"loss.kind=mixture", "loss.components=[\"fixed:0.3\", \"gaussian\"]"}, kPatchTst);
}

TEST(ForecastGradients, LinearModels) {
  expect_right({"model.kind=linear"}, 2);
  expect_right({"model.kind=linear", "model.form=dlinear"}, 4);
  expect_right({"model.kind=linear", "model.individual=true"}, 6);
  expect_right({"model.kind=linear", "model.form=dlinear", "model.individual=true", "model.instance_affine=true"}, 14);
}

TEST(ForecastGradients, AFewPercentWouldShow) {
  for (const char* kind : {"mse", "quantile", "mixture"}) {
    size_t wrong = 0;
    for (const GradientRow& row : gradients_of({std::string("loss.kind=") + kind}, 0.03).rows) {
      wrong += row.verdict() == Verdict::wrong ? 1 : 0;
    }
    EXPECT_GT(wrong, kPatchTst / 2) << kind;
  }
}

}  // namespace
}  // namespace farsight
