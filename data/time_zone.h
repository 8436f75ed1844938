// SPDX-License-Identifier: Apache-2.0
// Zones of the IANA data base: what a clock on a wall shows to UTC. Not thread-safe: an object remembers the last
// answer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace farsight {

class TimeZone {
 public:
  // "" and "UTC" need no data base. Error{usage} for a name it does not hold, Error{environment} without one.
  explicit TimeZone(const std::string& name);
  ~TimeZone();
  TimeZone(TimeZone&&) noexcept;
  TimeZone& operator=(TimeZone&&) noexcept;

  enum class Outcome : uint8_t { unique, skipped, twice };
  // skipped: the clock was put forward over this time; twice: it was put back and showed it again.
  struct Moment {
    Outcome outcome = Outcome::unique;
    int64_t utc_ns = 0;                               // where unique
    int64_t before_offset_s = 0, after_offset_s = 0;  // of the two sides of a change
  };
  // `wall_ns`: what the clock shows, counted as if it were in UTC.
  Moment to_utc(int64_t wall_ns) const;

  bool is_utc() const { return zone_ == nullptr; }
  const std::string& name() const { return name_; }

 private:
  struct Zone;
  std::string name_;
  std::unique_ptr<Zone> zone_;  // none: UTC
};

// "+02:00"
std::string offset_text(int64_t offset_s);

}  // namespace farsight
