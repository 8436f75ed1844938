// SPDX-License-Identifier: Apache-2.0
#include "data/calendar.h"

#include <array>
#include <chrono>

#include "kernels/error.h"

namespace farsight {

namespace {

constexpr std::array<const char*, 5> kNames = {"hour", "weekday", "day", "yearday", "minute"};

}  // namespace

const char* to_string(CalendarFeature feature) { return kNames.at(static_cast<size_t>(feature)); }

CalendarFeature calendar_feature(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<CalendarFeature>(i);
  }
  fail(ErrorKind::config, "no calendar feature '{}'; use hour, weekday, day, yearday, minute", name);
}

float calendar_value(CalendarFeature feature, int64_t time_ns) {
  namespace chr = std::chrono;
  const chr::sys_time<chr::nanoseconds> time{chr::nanoseconds{time_ns}};
  const auto midnight = chr::floor<chr::days>(time);
  const chr::year_month_day date{midnight};
  const auto minutes = chr::duration_cast<chr::minutes>(time - midnight).count();
  const auto scaled = [](int64_t value, double most) {
    return static_cast<float>(static_cast<double>(value) / most - 0.5);
  };
  switch (feature) {
    case CalendarFeature::hour:
      return scaled(minutes / 60, 23.0);
    case CalendarFeature::weekday:
      return scaled(static_cast<int64_t>(chr::weekday{midnight}.iso_encoding()) - 1, 6.0);
    case CalendarFeature::day:
      return scaled(static_cast<int64_t>(static_cast<unsigned>(date.day())) - 1, 30.0);
    case CalendarFeature::yearday:
      return scaled((midnight - chr::sys_days{date.year() / 1 / 1}).count(), 365.0);
    case CalendarFeature::minute:
      break;
  }
  return scaled(minutes % 60, 59.0);
}

}  // namespace farsight
