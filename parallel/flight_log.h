// SPDX-License-Identifier: Apache-2.0
// The last operations of one rank's communicators, for the watchdog: what was done last and what is still awaited.
// A ring buffer of fixed size; written by the rank's thread, read by the watchdog's. Thread safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

namespace farsight {

struct FlightEntry {
  uint64_t sequence = 0;       // counts this rank's operations from 1
  uint64_t axis_sequence = 0;  // counts the operations of this communicator from 1
  std::string axis;            // name of the communicator
  const char* operation = "";  // "all_reduce", "send", ...
  int peer = -1;               // of send, receive, broadcast; -1 for the others
  int64_t count = 0;           // elements
  const char* type = "";       // "f32", "byte", ...
  std::source_location site;
  std::chrono::steady_clock::time_point posted;
  bool finished = false;
};

// "all_reduce #88119 axis dp*ring, 2097152 x f32, parallel/gradients.cc:71, posted 300.4 s ago"
std::string to_string(const FlightEntry& entry, std::chrono::steady_clock::time_point now);

class FlightLog {
 public:
  explicit FlightLog(size_t capacity = 256);

  // Records the start of an operation and returns its sequence number.
  uint64_t begin(FlightEntry entry);
  void finish(uint64_t sequence);

  std::vector<FlightEntry> entries() const;  // oldest first
  std::vector<FlightEntry> pending() const;  // oldest first
  std::optional<FlightEntry> last_finished() const;
  uint64_t operations() const;  // begun so far

 private:
  mutable std::mutex mutex_;
  std::vector<FlightEntry> ring_;
  uint64_t next_ = 1;
  std::optional<FlightEntry> last_finished_;
};

}  // namespace farsight
