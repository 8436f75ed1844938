// SPDX-License-Identifier: Apache-2.0
#include "tests/forecast/synthetic_series.h"

#include <cmath>
#include <numbers>

#include "data/series_writer.h"

namespace farsight {
namespace {

constexpr int64_t kHour = 3'600'000'000'000;
constexpr int64_t kStart = 1'467'331'200'000'000'000;  // 2016-07-01T00:00:00Z

uint64_t mix64(uint64_t z) {
  z ^= z >> 30;
  z *= 0xBF58476D1CE4E5B9;
  z ^= z >> 27;
  z *= 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

}  // namespace

double synthetic_value(int64_t t, int64_t c) {
  const double u = static_cast<double>(mix64(static_cast<uint64_t>(3 * t + c + 1)) >> 11) * 0x1p-53;
  const auto time = static_cast<double>(t), channel = static_cast<double>(c);
  const double turn = 2.0 * std::numbers::pi * time;
  return 10.0 * (channel + 1.0) + 3.0 * std::sin(turn / 24.0 + channel) + 2.0 * std::sin(turn / 168.0) +
         0.0002 * (channel + 1.0) * time + u - 0.5;
}

SeriesTable synthetic_table(int64_t rows) {
  SeriesTable table;
  table.frequency = {.step_ns = kHour, .months = 0};
  Series series;
  series.id = "0";
  for (int64_t c = 0; c < kSyntheticChannels; ++c) {
    table.channels.push_back({.name = std::string(1, static_cast<char>('a' + c)), .unit = "kW"});
  }
  for (int64_t t = 0; t < rows; ++t) {
    series.time.push_back(kStart + t * kHour);
    for (int64_t c = 0; c < kSyntheticChannels; ++c) series.values.push_back(static_cast<float>(synthetic_value(t, c)));
  }
  table.series.push_back(std::move(series));
  const int64_t train = rows * 6 / 10, valid = rows * 8 / 10;
  table.splits = {{"train", {{0, 0, train}}}, {"valid", {{0, train, valid}}}, {"test", {{0, valid, rows}}}};
  return table;
}

std::string write_synthetic(const std::string& path, const SeriesTable& table) {
  SeriesHeader header;
  header.tool = "test";
  header.licence = "none";
  header.reproducible = true;
  header.overwrite = true;
  write_series(path, header, table);
  return path;
}

}  // namespace farsight
