// SPDX-License-Identifier: Apache-2.0
#include "data/frequency.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <string_view>

#include "data/date_time.h"
#include "kernels/error.h"

namespace farsight {

namespace {

namespace chrono = std::chrono;

constexpr int64_t kSecond = 1'000'000'000, kDay = 86'400 * kSecond;
constexpr int64_t kMonthsOfYear = 12;

struct Unit {
  std::string_view name;
  int64_t step_ns, months;
  bool shown;  // to_string uses it
};
// Longest first: to_string takes the first that divides.
constexpr Unit kUnits[] = {{"y", 0, kMonthsOfYear, false}, {"M", 0, 1, true},
                           {"w", 7 * kDay, 0, false},      {"d", kDay, 0, true},
                           {"h", 3600 * kSecond, 0, true}, {"min", 60 * kSecond, 0, true},
                           {"s", kSecond, 0, true},        {"ms", 1'000'000, 0, true},
                           {"us", 1'000, 0, true},         {"ns", 1, 0, true}};

// A time as the month it lies in (counted from year 0), the day of the month (from 1) and the time of that day.
struct CalendarTime {
  int64_t month;
  int day;
  int64_t of_day_ns;
};

CalendarTime calendar_time(int64_t time_ns) {
  const chrono::sys_time<chrono::nanoseconds> time{chrono::nanoseconds(time_ns)};
  const auto days = chrono::floor<chrono::days>(time);
  const chrono::year_month_day date{days};
  return {.month = int{date.year()} * kMonthsOfYear + static_cast<unsigned>(date.month()) - 1,
          .day = static_cast<int>(static_cast<unsigned>(date.day())),
          .of_day_ns = (time - days).count()};
}

chrono::year_month year_month_of(int64_t month) {
  const int64_t year = (month >= 0 ? month : month - kMonthsOfYear + 1) / kMonthsOfYear;
  return chrono::year{static_cast<int>(year)} / chrono::month{static_cast<unsigned>(month - year * kMonthsOfYear + 1)};
}

int clamped_day(int64_t month, int day) {
  const chrono::year_month_day_last last = year_month_of(month) / chrono::last;
  return std::min(day, static_cast<int>(static_cast<unsigned>(last.day())));
}

[[noreturn]] void fail_range() { fail(ErrorKind::data, "a date lies outside of the years {}", kYearsOfDates); }

int64_t advance_months(int64_t time_ns, int64_t months, int day) {
  const CalendarTime from = calendar_time(time_ns);
  constexpr int64_t kMost = 1000 * kMonthsOfYear;  // more than all of int64 ns
  if (months > kMost || months < -kMost) fail_range();
  const int64_t month = from.month + months;
  const auto date = year_month_of(month) / clamped_day(month, day);
  const int64_t days = chrono::sys_days(date).time_since_epoch().count();
  int64_t start = 0, time = 0;
  if (__builtin_mul_overflow(days, kDay, &start) || __builtin_add_overflow(start, from.of_day_ns, &time)) fail_range();
  return time;
}

[[noreturn]] void refuse(const std::string& text) {
  fail(ErrorKind::usage,
       "frequency '{}': a number and a unit are needed: 30s, 15min, 1h, 1d, 2w, 1M (month), 3M, 1y, or irregular",
       text);
}

}  // namespace

std::string to_string(const Frequency& frequency) {
  if (frequency.months != 0) return fmt::format("{}M", frequency.months);
  if (frequency.step_ns == 0) return "irregular";
  const auto divides = [&](const Unit& u) { return u.shown && u.step_ns != 0 && frequency.step_ns % u.step_ns == 0; };
  const Unit& unit = *std::find_if(std::begin(kUnits), std::end(kUnits), divides);
  return fmt::format("{}{}", frequency.step_ns / unit.step_ns, unit.name);
}

Frequency parse_frequency(const std::string& text) {
  if (text == "irregular") return {};
  int64_t count = 1;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, count);
  const bool bare = at == text.data();  // "h"
  const std::string_view name(at, static_cast<size_t>(end - at));
  const auto unit =
      std::find_if(std::begin(kUnits), std::end(kUnits), [&](const Unit& each) { return each.name == name; });
  if (unit == std::end(kUnits) || (!bare && error != std::errc()) || count <= 0) refuse(text);
  Frequency frequency;
  const bool overflow = __builtin_mul_overflow(count, unit->step_ns, &frequency.step_ns) ||
                        __builtin_mul_overflow(count, unit->months, &frequency.months);
  if (overflow || frequency.months > 100 * kMonthsOfYear) refuse(text);
  return frequency;
}

int64_t advance(const Frequency& frequency, int64_t time_ns, int64_t steps, int day) {
  int64_t count = 0, time = 0;
  if (frequency.months != 0) {
    if (__builtin_mul_overflow(frequency.months, steps, &count)) fail_range();
    return advance_months(time_ns, count, day);
  }
  if (frequency.step_ns == 0) fail(ErrorKind::internal, "no time follows another in rows at irregular times");
  if (__builtin_mul_overflow(frequency.step_ns, steps, &count) || __builtin_add_overflow(time_ns, count, &time)) {
    fail_range();
  }
  return time;
}

int anchor_day(std::span<const int64_t> time) {
  int day = 1;
  for (const int64_t each : time) day = std::max(day, calendar_time(each).day);
  return day;
}

std::optional<int64_t> steps_between(const Frequency& frequency, int64_t from, int64_t to, int day) {
  if (frequency.months == 0) {
    int64_t distance = 0;
    if (frequency.step_ns == 0 || __builtin_sub_overflow(to, from, &distance)) return std::nullopt;
    if (distance % frequency.step_ns != 0) return std::nullopt;
    return distance / frequency.step_ns;
  }
  const CalendarTime first = calendar_time(from), last = calendar_time(to);
  const int64_t months = last.month - first.month;
  const bool fits = months % frequency.months == 0 && first.of_day_ns == last.of_day_ns &&
                    first.day == clamped_day(first.month, day) && last.day == clamped_day(last.month, day);
  return fits ? std::optional(months / frequency.months) : std::nullopt;
}

}  // namespace farsight
