// SPDX-License-Identifier: Apache-2.0
// Baselines on a file against the cells of a published table.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/probe.h"
#include "data/series_windows.h"
#include "kernels/error.h"
#include "parallel/comm.h"
#include "trainer/forecast/baselines.h"

namespace farsight {

struct GoldenCell {
  double mse, mae;
};

// Windows of `path` in a split, normalised.
struct Data {
  Data(const std::string& path, int64_t lookback, int64_t horizon, const std::string& split = "test")
      : file(describe_series(path)), files(std::make_shared<SeriesFiles>(std::vector{file}, SeriesAccess{})) {
    WindowOptions options{.split = "train", .lookback = lookback, .horizon = horizon, .scale = pooled_scale({file})};
    train = std::make_unique<SeriesWindows>(files, options);
    options.split = split;
    windows = std::make_unique<SeriesWindows>(files, options);
  }
  SeriesDescriptor file;
  std::shared_ptr<SeriesFiles> files;
  std::unique_ptr<SeriesWindows> train, windows;
};

inline MetricValues evaluate(const Data& data, Baseline baseline, int64_t season, int64_t drop_last = 0) {
  const auto self = make_self_communicator();
  return evaluate_baselines(*data.train, *data.windows,
                            {.baselines = {baseline}, .season = season, .drop_last = drop_last}, *self)
      .front()
      .metrics.total();
}

inline void expect_cell(const MetricValues& found, const GoldenCell& cell, double tolerance, const std::string& what) {
  EXPECT_NEAR(found.mse, cell.mse, tolerance) << what;
  EXPECT_NEAR(found.mae, cell.mae, tolerance) << what;
}

inline constexpr double kExact = 2e-6, kSolved = 1e-5;  // of a cell; of one of the linear solution

}  // namespace farsight
