// SPDX-License-Identifier: Apache-2.0
// The distance of the rows of a time series.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
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
// The same back, also "h" for "1h", "2w", "1y", "500ms" and "irregular". Error{usage} with the units there are.
Frequency parse_frequency(const std::string& text);
// The time `steps` rows after `time_ns` (negative: before), in UTC; months by calendar, clamped to the last day of the
// month counted from `day` (the day of month of the first row). Error{internal} for an irregular frequency.
int64_t advance(const Frequency& frequency, int64_t time_ns, int64_t steps, int day);
// The `day` of rows at calendar steps: the largest day of month among them, so that 30 April, 31 May are month ends.
int anchor_day(std::span<const int64_t> time);
// How many steps lead from one time to another: advance's inverse. Nothing when no whole number does.
std::optional<int64_t> steps_between(const Frequency& frequency, int64_t from, int64_t to, int day);

}  // namespace farsight
