// SPDX-License-Identifier: Apache-2.0
#include "trainer/run_lock.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <sstream>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kernels/error.h"

namespace farsight {
namespace {

using nlohmann::json;
constexpr int64_t kMaxLockBytes = 64 << 10;
constexpr double kPollSeconds = 5;

std::string random_token() {
  std::random_device source;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", source(), source(), source(), source());
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Start time in clock ticks since boot: field 22 of /proc/PID/stat, counted after the name, which may hold spaces.
// 0 if there is no such process or it is only waiting to be reaped.
int64_t start_of_process(int64_t pid) {
  const std::string line = first_line(fmt::format("/proc/{}/stat", pid));
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream rest(line.substr(name_end + 1));
  const std::vector<std::string> fields{std::istream_iterator<std::string>(rest), {}};
  if (fields.size() < 20 || fields[0] == "Z" || fields[0] == "X") return 0;
  return std::strtoll(fields[19].c_str(), nullptr, 10);
}

bool process_alive(int64_t pid, int64_t pidstart) { return start_of_process(pid) == pidstart && pidstart != 0; }

void sleep_seconds(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string encode(const LockOwner& owner) {
  const json object = {{"token", owner.token}, {"job", owner.job}, {"restart", owner.restart},  {"host", owner.host},
                       {"boot", owner.boot},   {"pid", owner.pid}, {"pidstart", owner.pidstart}};
  return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

// Empty for anything that is not a lock of ours, such as a half-written file: only its age counts then.
std::optional<LockOwner> decode(const std::string& text) {
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return std::nullopt;
  try {
    LockOwner owner;
    object.at("token").get_to(owner.token);
    object.at("job").get_to(owner.job);
    object.at("restart").get_to(owner.restart);
    object.at("host").get_to(owner.host);
    object.at("boot").get_to(owner.boot);
    object.at("pid").get_to(owner.pid);
    object.at("pidstart").get_to(owner.pidstart);
    return owner;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

LockOwner unknown_owner() {
  LockOwner owner;
  owner.host = "unknown";
  return owner;
}

std::string describe(const LockOwner& owner) {
  return fmt::format("{}host {} pid {}", owner.job.empty() ? "" : fmt::format("job {} ", owner.job), owner.host,
                     owner.pid);
}

// Age by the clock of the file system, which need not agree with ours: a file made now tells its time.
double age_seconds(FileSystem& files, const std::string& path, const std::string& probe) {
  FileStatus lock, now;
  if (files.status(path, lock) < 0) return 0;
  files.remove_file(probe);
  OutputFile(files, probe).close();
  const int result = files.status(probe, now);
  files.remove_file(probe);
  if (result == -ENOENT) return 0;  // swept away by the clean-up of a new owner
  check_io(result, "cannot look at", probe);
  return static_cast<double>(now.modified_ns - lock.modified_ns) * 1e-9;
}

// Why the lock of `found` may be taken over; empty: it may not.
std::string reason_to_take_over(const std::optional<LockOwner>& found, const LockOptions& options, double age_s) {
  if (age_s > options.stale_s) return fmt::format("not touched for {:.0f} s", age_s);
  if (!found) return {};
  const bool same_machine = found->host == options.self.host && found->boot == options.self.boot;
  const auto& alive = options.alive ? options.alive : process_alive;
  if (same_machine && !alive(found->pid, found->pidstart)) return "its process is gone";
  const bool same_job = !found->job.empty() && found->job == options.self.job;
  if (same_job && options.self.restart > found->restart) return "an earlier start of this job";
  return {};
}

bool alive_here(const std::optional<LockOwner>& found, const LockOptions& options) {
  if (!found || found->host != options.self.host || found->boot != options.self.boot) return false;
  return options.alive ? options.alive(found->pid, found->pidstart) : process_alive(found->pid, found->pidstart);
}

}  // namespace

LockOwner current_process() {
  LockOwner self;
  self.token = random_token();
  self.job = environment("SLURM_JOB_ID");
  self.restart = std::strtoll(environment("SLURM_RESTART_COUNT").c_str(), nullptr, 10);
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  self.host = host.data();
  self.boot = first_line("/proc/sys/kernel/random/boot_id");
  self.pid = getpid();
  self.pidstart = start_of_process(self.pid);
  return self;
}

RunLock::RunLock(FileSystem& files, std::string directory, LockOptions options)
    : files_(files), directory_(std::move(directory)), path_(directory_ + "/run.lock"), token_(options.self.token) {
  make_directories(files_, directory_);
  acquire(options);
  clean_up();
}

RunLock::~RunLock() {
  try {
    if (owned()) files_.remove_file(path_);
  } catch (const Error&) {
    // An unreadable lock is left to its age.
  }
}

bool RunLock::try_create(const LockOwner& self) {
  // link(2) of a finished file would never show half a lock, but some storage has no links. Half a lock names no owner,
  // so that only its age counts.
  const int descriptor = files_.create_exclusive(path_);
  if (descriptor == -EEXIST) return false;
  check_io(descriptor, "cannot create", path_);
  const std::string text = encode(self);
  const int64_t written = files_.write(descriptor, text.data(), text.size());
  const int synced = files_.sync_data(descriptor);
  files_.close(descriptor);
  if (written == static_cast<int64_t>(text.size()) && synced >= 0) return true;
  files_.remove_file(path_);
  check_io(written < 0 ? written : (synced < 0 ? synced : -EIO), "cannot write", path_);
  return false;
}

// Only the holder of a guard file removes a stale lock, and it looks again first: a candidate that read the stale lock
// long ago can never remove the lock of the one that took over meanwhile. A guard left by a dead process ages like a
// lock.
bool RunLock::take_over(const LockOwner& found, const std::string& reason, double stale_s) {
  const std::string guard = path_ + ".takeover";
  const int descriptor = files_.create_exclusive(guard);
  if (descriptor == -EEXIST) {
    if (age_seconds(files_, guard, directory_ + "/.tmp-clock-" + token_) > stale_s) files_.remove_file(guard);
    return false;
  }
  check_io(descriptor, "cannot create", guard);
  files_.close(descriptor);
  const bool stale = token_in_file() == found.token && files_.remove_file(path_) >= 0;
  files_.remove_file(guard);
  if (stale) note_ = fmt::format("took over the run lock of {} ({})", describe(found), reason);
  return stale;
}

// "" for half a lock, as unknown_owner() has; nothing when there is no lock.
std::optional<std::string> RunLock::token_in_file() const {
  if (!exists(files_, path_)) return std::nullopt;
  try {
    const auto owner = decode(read_text(files_, path_, kMaxLockBytes));
    return owner ? owner->token : std::string();
  } catch (const Error&) {
    if (exists(files_, path_)) throw;
    return std::nullopt;  // released in between
  }
}

void RunLock::acquire(const LockOptions& options) {
  const auto& sleep = options.sleep ? options.sleep : sleep_seconds;
  double waited_s = 0;
  while (!try_create(options.self)) {
    std::optional<LockOwner> found;
    try {
      found = decode(read_text(files_, path_, kMaxLockBytes));
    } catch (const Error&) {
      if (!exists(files_, path_)) continue;  // released in between
      throw;
    }
    const double age_s = age_seconds(files_, path_, directory_ + "/.tmp-clock-" + token_);
    const LockOwner owner = found.value_or(unknown_owner());
    const bool alive = alive_here(found, options);
    const std::string reason = alive ? "" : reason_to_take_over(found, options, age_s);
    if (!reason.empty() && take_over(owner, reason, options.stale_s)) continue;
    if (alive || waited_s >= options.wait_s) {
      fail(ErrorKind::environment, "run directory in use: {} is held by {}{}; stop that job or choose another run.dir",
           path_, describe(owner), alive ? "" : fmt::format(" (waited {:.0f} s)", waited_s));
    }
    const double pause_s = std::min(kPollSeconds, std::max(options.wait_s - waited_s, 0.001));
    sleep(pause_s);
    waited_s += pause_s;
  }
}

void RunLock::clean_up() {
  for (const std::string& name : list_sorted(files_, directory_)) {
    if (name.starts_with(".tmp-") || name.starts_with(".trash-")) remove_tree(files_, directory_ + "/" + name);
  }
}

bool RunLock::owned() const {
  if (!exists(files_, path_)) return false;
  const std::optional<LockOwner> found = decode(read_text(files_, path_, kMaxLockBytes));
  return found && found->token == token_;
}

void RunLock::touch() const { check_io(files_.touch(path_), "cannot touch", path_); }

void write_exit_record(FileSystem& files, const std::string& run_directory, const ExitRecord& record) {
  const json object = {
      {"code", record.code}, {"reason", record.reason}, {"step", record.step}, {"message", record.message}};
  // Scripts take the code with sed, so it stays on one line of its own.
  replace_file(files, run_directory + "/exit.json", object.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace farsight
