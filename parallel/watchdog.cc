// SPDX-License-Identifier: Apache-2.0
#include "parallel/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace farsight {

namespace {

constexpr int kExitCode = 124;
constexpr size_t kStepMemory = 100;  // steps in the median
constexpr int kSlowSections = 6;     // init, first step, evaluation, load, save: this many times the limit of a step

using Milliseconds = std::chrono::milliseconds;

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string json_entry(const FlightEntry& e, std::chrono::steady_clock::time_point now) {
  const double age_s = std::chrono::duration<double>(now - e.posted).count();
  return fmt::format(
      R"(  {{"sequence": {}, "axis": {}, "axis_sequence": {}, "operation": {}, "peer": {}, "count": {}, "type": {}, "site": {}, "age_s": {:.3f}, "finished": {}}})",
      e.sequence, json_string(e.axis), e.axis_sequence, json_string(e.operation), e.peer, e.count, json_string(e.type),
      json_string(fmt::format("{}:{}", e.site.file_name(), e.site.line())), age_s, e.finished);
}

// One line of the summary; written by each rank into its report so that the lowest rank need not parse JSON.
std::string headline(const WatchdogOptions& options, const FlightLog& log) {
  const auto now = std::chrono::steady_clock::now();
  const auto pending = log.pending();
  const auto last = log.last_finished();
  const std::string waits = pending.empty() ? "computes, reads or writes (no communication pending)"
                                            : "waits: " + to_string(pending.front(), now);
  const std::string done = last ? "; last done: " + to_string(*last, now) : "; nothing done yet";
  return fmt::format("rank {} ({}) {}{}", options.rank, options.host, waits, done);
}

std::filesystem::path report_path(const WatchdogOptions& options, int rank) {
  return options.directory / fmt::format("rank-{}.json", rank);
}

// The value of "headline" in a report of ours.
std::string headline_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::string key = "\"headline\": \"";
  const size_t at = text.find(key);
  if (at == std::string::npos) return {};
  std::string line;
  for (size_t i = at + key.size(); i < text.size() && text[i] != '"'; ++i) {
    if (text[i] == '\\') ++i;
    if (i < text.size()) line += text[i];
  }
  return line;
}

void print_to_stderr(const std::string& text) {
  size_t begin = 0;
  while (begin < text.size()) {  // write(2): other threads may hold the locks of stdio for ever
    const ssize_t n = ::write(STDERR_FILENO, text.data() + begin, text.size() - begin);
    if (n <= 0) return;
    begin += static_cast<size_t>(n);
  }
}

}  // namespace

const char* to_string(Section section) {
  switch (section) {
    case Section::init:
      return "init";
    case Section::first_step:
      return "first step";
    case Section::step:
      return "step";
    case Section::evaluation:
      return "evaluation";
    case Section::data:
      return "data";
    case Section::load:
      return "load";
    case Section::save:
      return "save";
  }
  return "?";
}

Watchdog::Watchdog(WatchdogOptions options, const FlightLog& log) : options_(std::move(options)), log_(log) {
  if (!options_.end) options_.end = [](int code) { _exit(code); };
  if (!options_.print) options_.print = print_to_stderr;
  if (options_.limit.count() > 0) thread_ = std::thread([this] { run(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::progress() { progress_.fetch_add(1, std::memory_order_relaxed); }

void Watchdog::enter(Section section, int64_t step) {
  const std::lock_guard lock(mutex_);
  section_ = section;
  step_ = step;
  progress();
}

void Watchdog::step_took(Milliseconds duration) {
  const std::lock_guard lock(mutex_);
  if (recent_steps_.size() == kStepMemory) recent_steps_.erase(recent_steps_.begin());
  recent_steps_.push_back(duration);
}

void Watchdog::set_last_checkpoint(int64_t step) {
  const std::lock_guard lock(mutex_);
  last_checkpoint_ = step;
}

Milliseconds Watchdog::limit_of(Section section) const {
  if (section == Section::data) return options_.limit;
  if (section != Section::step) return options_.limit * kSlowSections;
  if (recent_steps_.empty()) return options_.limit;
  std::vector<Milliseconds> sorted = recent_steps_;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2), sorted.end());
  return std::max(options_.limit, 10 * sorted[sorted.size() / 2]);
}

void Watchdog::run() {
  const auto tick = std::clamp(options_.limit / 20, Milliseconds(1), Milliseconds(1000));
  std::unique_lock lock(mutex_);
  uint64_t seen = progress_;
  auto since = std::chrono::steady_clock::now();
  while (!wake_.wait_for(lock, tick, [this] { return stopping_; })) {
    const auto now = std::chrono::steady_clock::now();
    const uint64_t current = progress_;
    if (current != seen) {
      seen = current;
      since = now;
      continue;
    }
    const Milliseconds limit = limit_of(section_);
    if (now - since < limit) continue;
    expire(limit, lock);
    return;
  }
}

void Watchdog::expire(Milliseconds limit, std::unique_lock<std::mutex>& lock) {
  std::error_code ignored;  // a full or missing disk must not keep the job from ending
  std::filesystem::create_directories(options_.directory, ignored);
  const auto path = report_path(options_, options_.rank);
  const auto started = std::filesystem::file_time_type::clock::now();
  const auto unfinished = std::filesystem::path(path.string() + ".tmp");
  std::ofstream(unfinished) << report(limit);
  std::filesystem::rename(unfinished, path, ignored);
  wake_.wait_for(lock, options_.report_wait, [this] { return stopping_; });
  // Reports of an earlier hang in the same directory do not count.
  const std::string text = summary(limit, started - options_.report_wait - limit);
  if (!text.empty()) {
    options_.print(text);
  } else {
    // The lower rank has begun its own wait by now; ending first would make the launcher kill it before it prints.
    wake_.wait_for(lock, options_.report_wait, [this] { return stopping_; });
  }
  options_.end(kExitCode);
}

std::string Watchdog::report(Milliseconds limit) const {
  const auto now = std::chrono::steady_clock::now();
  std::ostringstream out;
  out << fmt::format("{{\"rank\": {}, \"host\": {}, \"section\": {}, \"step\": {}, \"limit_s\": {:.3f},\n",
                     options_.rank, json_string(options_.host), json_string(to_string(section_)), step_,
                     std::chrono::duration<double>(limit).count());
  out << fmt::format("\"headline\": {},\n\"operations\": [\n", json_string(headline(options_, log_)));
  const auto entries = log_.entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    out << json_entry(entries[i], now) << (i + 1 < entries.size() ? ",\n" : "\n");
  }
  out << "]}\n";
  return out.str();
}

std::string Watchdog::summary(Milliseconds limit, std::filesystem::file_time_type oldest) const {
  std::string reports;
  std::string missing;
  for (int r = 0; r < options_.world; ++r) {
    std::error_code error;
    const auto time = std::filesystem::last_write_time(report_path(options_, r), error);
    if (error || time < oldest) {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", r);
      continue;
    }
    if (reports.empty() && r != options_.rank) return {};  // a lower rank has reported and prints
    reports += "  " + headline_of(report_path(options_, r)) + "\n";
  }
  const double limit_s = std::chrono::duration<double>(limit).count();
  const std::string checkpoint = last_checkpoint_ < 0 ? "none" : fmt::format("step {}", last_checkpoint_);
  std::string text = fmt::format(
      "watchdog: no progress for {:.1f} s in '{}' {} (limit {:.1f} s); last committed checkpoint: {}; exit {}\n{}",
      limit_s, to_string(section_), step_, limit_s, checkpoint, kExitCode, reports);
  if (!missing.empty()) {
    text += fmt::format("  no report from: rank {} <- suspect (stopped, swapping, or its node is gone)\n", missing);
  }
  text += fmt::format("  reports: {}; resume the same command with --resume=auto\n", options_.directory.string());
  return text;
}

}  // namespace farsight
