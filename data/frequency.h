// SPDX-License-Identifier: Apache-2.0
// The distance of the rows of a time series.
#pragma once

#include <cstdint>
#include <string>

namespace farsight {

// The distance of rows. Calendar months have no fixed length: step_ns is 0 then and months counts them.
struct Frequency {
  int64_t step_ns = 0;
  int64_t months = 0;  // 1 month, 3 quarter, 12 year
  bool operator==(const Frequency&) const = default;
};
// "15min", "1h", "1d", "7d", "1M", "3M", "12M"; "irregular" for neither.
std::string to_string(const Frequency& frequency);
// The time `steps` rows after `time_ns` (negative: before), in UTC; months by calendar, clamped to the last day of the
// month counted from `day` (the day of month of the first row). Error{internal} for an irregular frequency.
int64_t advance(const Frequency& frequency, int64_t time_ns, int64_t steps, int day);

}  // namespace farsight
