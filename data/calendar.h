// SPDX-License-Identifier: Apache-2.0
// Features of the calendar, computed from the time of a row when it is read and never stored: each in [-0.5, 0.5].
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace farsight {

// hour/23, weekday/6 (Monday 0), (day of month - 1)/30, (day of year - 1)/365, minute/59, each minus one half.
// Source: forecasting specification, section 2.5.
enum class CalendarFeature : uint8_t { hour, weekday, day, yearday, minute };

const char* to_string(CalendarFeature feature);
// Error{config} listing what there is.
CalendarFeature calendar_feature(std::string_view name);

// Of a time in ns since 1970-01-01 UTC; thread safe.
float calendar_value(CalendarFeature feature, int64_t time_ns);

}  // namespace farsight
