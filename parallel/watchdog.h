// SPDX-License-Identifier: Apache-2.0
// Ends a job in which a rank makes no progress, and says where every rank stands. One thread per rank; it never calls
// MPI, because the rank's own thread may be inside it. On expiry it writes <directory>/rank-R.json from the flight
// log, waits for the reports of the others, the lowest reporting rank prints the summary, and the process ends with
// exit code 124. A rank without a report is the suspect.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/flight_log.h"

namespace farsight {

// What the rank is doing; each has its own limit.
enum class Section : uint8_t { init, first_step, step, evaluation, data, load, save };
const char* to_string(Section section);

struct WatchdogOptions {
  std::filesystem::path directory;  // reports; created on expiry
  int rank = 0;
  int world = 1;
  std::string host;
  std::chrono::milliseconds limit{300000};      // of a step and of data; init, first step, evaluation, load, save: 6 x
  std::chrono::milliseconds report_wait{5000};  // for the reports of the other ranks
  // How the process ends and where the summary goes; tests replace them. Null: _exit and standard error.
  std::function<void(int code)> end;
  std::function<void(const std::string& text)> print;
};

class Watchdog {
 public:
  // Starts the thread, in section init. `log` must outlive the watchdog. A limit of 0 disables it (no thread).
  Watchdog(WatchdogOptions options, const FlightLog& log);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Progress: restarts the clock. Cheap; call at least once per step, micro-batch, file chunk.
  void progress();
  // Enters a section (and restarts the clock); `step` goes into the report.
  void enter(Section section, int64_t step);
  // The limit of a step adapts: max(limit, 10 x median of recent steps); the loop passes the duration of each step.
  void step_took(std::chrono::milliseconds duration);
  void set_last_checkpoint(int64_t step);  // for the summary; -1 = none

 private:
  void run();
  std::chrono::milliseconds limit_of(Section section) const;
  void expire(std::chrono::milliseconds limit, std::unique_lock<std::mutex>& lock);
  std::string report(std::chrono::milliseconds limit) const;
  // Empty when a lower rank prints it. Reports older than `oldest` do not count.
  std::string summary(std::chrono::milliseconds limit, std::filesystem::file_time_type oldest) const;

  WatchdogOptions options_;
  const FlightLog& log_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::atomic<uint64_t> progress_{0};
  Section section_ = Section::init;
  int64_t step_ = 0;
  int64_t last_checkpoint_ = -1;
  std::vector<std::chrono::milliseconds> recent_steps_;
  std::thread thread_;
};

}  // namespace farsight
