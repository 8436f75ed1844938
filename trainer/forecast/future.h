// SPDX-License-Identifier: Apache-2.0
// The real future: forecasts of the rows behind the last one of a table, in original units.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/series_table.h"
#include "trainer/forecast/linear_solution.h"
#include "trainer/forecast/trained_forecaster.h"

namespace farsight {

// Of one target channel of one series, original units. H rows.
struct ChannelForecast {
  std::string series;  // "" where there is only one
  std::string channel, unit;
  std::vector<double> mean;                                 // [H] the point forecast
  std::vector<double> quantiles;                            // [H, Q]
  std::vector<double> repeat_last, seasonal_naive, linear;  // [H]; the last two are empty where they cannot be made
  std::vector<double> recent;                               // [L] the look-back, NaN where not observed
};

struct FutureForecast {
  std::vector<double> levels;                     // [Q]
  std::vector<std::vector<int64_t>> time;         // [series][H] ns
  std::vector<std::vector<int64_t>> recent_time;  // [series][L]
  std::vector<int64_t> cutoff;                    // [series] last observed time
  std::vector<size_t> series_of;                  // [channels] index into time and cutoff
  std::vector<ChannelForecast> channels;
  std::vector<std::string> warnings;
};

struct FutureOptions {
  int64_t horizon = 0;  // 0: the model's; beyond it the forecast is rolled out
  int64_t paths = 200;  // of a rolled out distribution
  uint64_t seed = 0;
  const LinearSolution* linear = nullptr;  // of the training data, with the model's look-back and `horizon`
};

// `recent`: the last rows of one or several series with the channels of the run, in any order; open_rows of them at the
// end of each series hold known covariates only. Scaled as in training. Error{data}: a channel is missing, another
// frequency, fewer rows than the look-back.
FutureForecast forecast_future(TrainedForecaster& trained, const SeriesTable& recent, int64_t open_rows,
                               const FutureOptions& options);

// Long form: unique_id,ds,cutoff,horizon,y,mean,q0.1,...,repeat_last,seasonal_naive,linear; y is empty. unique_id: the
// channel, or series/channel. with_units: a column `unit`.
std::string to_csv(const FutureForecast& forecast, bool with_units);

// A cell of that table: quoted where it must be; numbers rounded to fp32, as data are, and as the
// shortest text that reads back equal.
std::string csv_cell(const std::string& text);
std::string csv_number(double value);

}  // namespace farsight
