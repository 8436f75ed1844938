// SPDX-License-Identifier: Apache-2.0
// Tables of measurements written for a test, and what is wrong with them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "data/date_time.h"
#include "data/series_csv.h"
#include "tests/data/scratch.h"

namespace farsight {

inline constexpr int64_t kHour = 3'600'000'000'000, kDay = 24 * kHour;

inline int64_t at(const char* text) { return read_date(DateForm::iso, text)->ns; }

// Bits, so that NaN equals NaN.
inline std::vector<uint32_t> bits(const std::vector<float>& values) {
  std::vector<uint32_t> result(values.size());
  std::memcpy(result.data(), values.data(), values.size() * sizeof(float));
  return result;
}

class SeriesCsvCase : public testing::Test {
 protected:
  SeriesCsvOptions options(const std::string& bytes) const {
    SeriesCsvOptions o;
    o.inputs = {scratch_.write("load.csv", bytes)};
    return o;
  }
  SeriesCsv read(const std::string& bytes) const { return read_series_csv(options(bytes)); }

  // What is wrong, without the folder of the test.
  std::string refused(const SeriesCsvOptions& o, ErrorKind kind = ErrorKind::data) const {
    std::string text = error_of(kind, [&] { read_series_csv(o); });
    for (size_t found = 0; (found = text.find(scratch_.folder() + "/")) != std::string::npos;) {
      text.erase(found, scratch_.folder().size() + 1);
    }
    return text;
  }
  std::string refused(const std::string& bytes) const { return refused(options(bytes)); }

  Scratch scratch_;
};

// Hourly rows "2020-01-01 00:00,0,1000" and so on: half an hour of a, one less of b.
inline std::string hourly(int rows) {
  std::string text = "date,a,b\n";
  for (int i = 0; i < rows; ++i)
    text += fmt::format("2020-01-{:02} {:02}:00,{},{}\n", 1 + i / 24, i % 24, i * 0.5, 1000 - i);
  return text;
}

}  // namespace farsight
