// SPDX-License-Identifier: Apache-2.0
#include "data/time_zone.h"

#include <chrono>

#include <date/tz.h>

#include "kernels/error.h"

namespace farsight {

namespace {

namespace chrono = std::chrono;

constexpr int64_t kSecond = 1'000'000'000;

const date::time_zone* find_zone(const std::string& name) {
  try {
    date::get_tzdb();
  } catch (const std::exception& error) {
    fail(ErrorKind::environment, "no data base of time zones: {}; install the package tzdata, or write dates in UTC",
         error.what());
  }
  try {
    return date::locate_zone(name);
  } catch (const std::exception&) {
    fail(ErrorKind::usage,
         "--timezone={}: no such zone; write a name like Europe/Berlin, or Etc/GMT-1 for UTC+01:00 without summer time",
         name);
  }
}

}  // namespace

struct TimeZone::Zone {
  const date::time_zone* zone = nullptr;
  // Walls within [begin, end) have this offset alone: rows follow each other, so most need no look-up.
  int64_t begin_ns = 0, end_ns = 0, offset_s = 0;

  void remember(const date::sys_info& info) {
    // A day away from every change no other offset can apply.
    constexpr chrono::sys_seconds kFirst{chrono::seconds(-9'000'000'000)}, kLast{chrono::seconds(9'000'000'000)};
    const auto margin = chrono::hours(24);
    begin_ns = (std::max(info.begin, kFirst) + margin).time_since_epoch().count() * kSecond;
    end_ns = (std::min(info.end, kLast) - margin).time_since_epoch().count() * kSecond;
    offset_s = info.offset.count();
  }
};

TimeZone::TimeZone(const std::string& name) : name_(name.empty() ? "UTC" : name) {
  if (name_ == "UTC") return;
  zone_ = std::make_unique<Zone>();
  zone_->zone = find_zone(name_);
}
TimeZone::~TimeZone() = default;
TimeZone::TimeZone(TimeZone&&) noexcept = default;
TimeZone& TimeZone::operator=(TimeZone&&) noexcept = default;

TimeZone::Moment TimeZone::to_utc(int64_t wall_ns) const {
  if (zone_ == nullptr) return {.outcome = Outcome::unique, .utc_ns = wall_ns};
  if (wall_ns < zone_->begin_ns || wall_ns >= zone_->end_ns) {
    const date::local_time<chrono::nanoseconds> wall{chrono::nanoseconds(wall_ns)};
    const date::local_info info = zone_->zone->get_info(chrono::floor<chrono::seconds>(wall));
    if (info.result != date::local_info::unique) {
      return {.outcome = info.result == date::local_info::ambiguous ? Outcome::twice : Outcome::skipped,
              .utc_ns = 0,
              .before_offset_s = info.first.offset.count(),
              .after_offset_s = info.second.offset.count()};
    }
    zone_->remember(info.first);
    return {.outcome = Outcome::unique, .utc_ns = wall_ns - info.first.offset.count() * kSecond};
  }
  return {.outcome = Outcome::unique, .utc_ns = wall_ns - zone_->offset_s * kSecond};
}

std::string offset_text(int64_t offset_s) {
  const int64_t minutes = (offset_s < 0 ? -offset_s : offset_s) / 60;
  return fmt::format("{}{:02}:{:02}", offset_s < 0 ? '-' : '+', minutes / 60, minutes % 60);
}

}  // namespace farsight
