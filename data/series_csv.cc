// SPDX-License-Identifier: Apache-2.0
#include "data/series_csv.h"

#include <algorithm>
#include <cmath>

#include "data/problems.h"
#include "data/series_missing.h"
#include "data/series_order.h"
#include "data/series_rows.h"
#include "data/series_steps.h"
#include "data/series_warnings.h"
#include "kernels/error.h"

namespace farsight {

namespace {

void check_options(const SeriesCsvOptions& options) {
  if (options.inputs.empty()) fail(ErrorKind::usage, "data csv: no input file; see farsight data csv --help");
  if (options.decimal != '.' && options.decimal != ',') {
    fail(ErrorKind::usage, "--decimal={}: it is a point or a comma", options.decimal);
  }
  constexpr std::string_view kNotBetween = "\"\r\n.+-0123456789";
  if (kNotBetween.find(options.delimiter) != std::string_view::npos) {
    fail(ErrorKind::usage, "--delimiter={}: this cannot stand between numbers", options.delimiter);
  }
  for (const Sentinel& sentinel : options.sentinels) {
    if (!std::isfinite(static_cast<float>(sentinel.value))) fail(ErrorKind::usage, "--sentinel: a number is needed");
  }
  if (options.frequency != "auto") parse_frequency(options.frequency);
}

// Unobserved cells are NaN in values.
std::vector<uint8_t> mask_of(const std::vector<float>& values) {
  if (std::none_of(values.begin(), values.end(), [](float v) { return std::isnan(v); })) return {};
  std::vector<uint8_t> mask(values.size());
  std::transform(values.begin(), values.end(), mask.begin(), [](float v) { return std::isnan(v) ? 0 : 1; });
  return mask;
}

SeriesTable to_table(SeriesRowTable rows, const Frequency& frequency) {
  SeriesTable table;
  table.channels = std::move(rows.columns.roles);
  for (const size_t column : rows.columns.statics) table.static_names.push_back(rows.columns.names[column]);
  table.frequency = frequency;
  for (SeriesRows& each : rows.series) {
    Series series;
    series.id = std::move(each.id);
    series.time = std::move(each.time);
    series.values = std::move(each.values);
    series.statics = std::move(each.statics);
    std::vector<RowPlace>().swap(each.place);
    series.mask = mask_of(series.values);
    table.series.push_back(std::move(series));
  }
  return table;
}

}  // namespace

SeriesCsv read_series_csv(const SeriesCsvOptions& options) {
  check_options(options);
  Problems problems;
  SeriesCsv result;
  SeriesRowTable rows = read_series_rows(options, problems);
  // Steps between rows say nothing while rows are absent or out of order.
  if (!order_rows(options, rows, problems) || !rows.complete) problems.throw_if_any();
  const Frequency frequency = find_frequency(options, rows, problems);
  result.inserted_rows = fill_gaps(options, frequency, rows, problems);
  if (options.open_end) result.open_rows = count_open_rows(rows, problems);
  problems.throw_if_any();
  result.filled = treat_missing(options, result.open_rows, rows, problems);
  problems.throw_if_any();
  result.sha256 = std::move(rows.sha256);
  result.warnings = std::move(rows.warnings);
  result.table = to_table(std::move(rows), frequency);
  for (std::string& warning : value_warnings(result.table)) result.warnings.push_back(std::move(warning));
  return result;
}

}  // namespace farsight
