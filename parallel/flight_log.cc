// SPDX-License-Identifier: Apache-2.0
#include "parallel/flight_log.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace farsight {

namespace {

// The path from the project root, whatever directory the compiler was started in.
std::string_view short_path(std::string_view path) {
  for (const std::string_view folder : {"tests/", "kernels/", "parallel/", "data/", "trainer/"}) {
    const size_t at = path.rfind(folder);
    if (at != std::string_view::npos && (at == 0 || path[at - 1] == '/')) return path.substr(at);
  }
  return path;
}

}  // namespace

std::string to_string(const FlightEntry& e, std::chrono::steady_clock::time_point now) {
  const double age_s = std::chrono::duration<double>(now - e.posted).count();
  const std::string peer = e.peer < 0 ? "" : fmt::format(" peer {},", e.peer);
  return fmt::format("{} #{} axis {} #{},{} {} x {}, {}:{}, posted {:.1f} s ago", e.operation, e.sequence, e.axis,
                     e.axis_sequence, peer, e.count, e.type, short_path(e.site.file_name()), e.site.line(), age_s);
}

FlightLog::FlightLog(size_t capacity) : ring_(std::max<size_t>(capacity, 1)) {}

uint64_t FlightLog::begin(FlightEntry entry) {
  entry.posted = std::chrono::steady_clock::now();
  const std::lock_guard lock(mutex_);
  entry.sequence = next_++;
  const uint64_t sequence = entry.sequence;
  ring_[sequence % ring_.size()] = std::move(entry);
  return sequence;
}

void FlightLog::finish(uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  FlightEntry& entry = ring_[sequence % ring_.size()];
  if (entry.sequence != sequence) return;  // overwritten by a later operation
  entry.finished = true;
  if (!last_finished_ || last_finished_->sequence < sequence) last_finished_ = entry;
}

std::vector<FlightEntry> FlightLog::entries() const {
  const std::lock_guard lock(mutex_);
  std::vector<FlightEntry> result;
  for (const FlightEntry& entry : ring_) {
    if (entry.sequence != 0) result.push_back(entry);
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.sequence < b.sequence; });
  return result;
}

std::vector<FlightEntry> FlightLog::pending() const {
  std::vector<FlightEntry> result = entries();
  std::erase_if(result, [](const FlightEntry& e) { return e.finished; });
  return result;
}

std::optional<FlightEntry> FlightLog::last_finished() const {
  const std::lock_guard lock(mutex_);
  return last_finished_;
}

uint64_t FlightLog::operations() const {
  const std::lock_guard lock(mutex_);
  return next_ - 1;
}

}  // namespace farsight
