// SPDX-License-Identifier: Apache-2.0
// One job per run directory. run.lock is created exclusively and holds {token, job, restart, host, boot, pid,
// pidstart}; its owner touches it every 30 s. Rank 0 holds it; no other rank looks at it.
//   same host and boot, process alive         -> Error{environment} at once
//   same host and boot, process gone          -> taken over
//   same batch job with a larger restart count -> taken over
//   not touched for `stale_s` by the file system's own clock -> taken over
//   else                                      -> waits up to `wait_s`, then Error{environment} naming job, host, pid
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "trainer/file_system.h"

namespace farsight {

// Who holds a lock. boot and pidstart tell a reused process number from the process itself.
struct LockOwner {
  std::string token, job, host, boot;
  int64_t restart = 0;
  int64_t pid = 0;
  int64_t pidstart = 0;
};
LockOwner current_process();  // a fresh token; job and restart from SLURM_JOB_ID and SLURM_RESTART_COUNT

struct LockOptions {
  LockOwner self = current_process();
  double stale_s = 300;
  double wait_s = 360;
  // True if the process runs and started at pidstart. Only asked for this host and boot.
  std::function<bool(int64_t pid, int64_t pidstart)> alive;  // empty: asks /proc
  std::function<void(double seconds)> sleep;                 // empty: sleeps
};

class RunLock {
 public:
  // Creates the directory where needed, takes the lock, then removes what a dead owner left: .tmp-* and .trash-*.
  RunLock(FileSystem& files, std::string directory, LockOptions options = {});
  ~RunLock();  // removes the lock if it is still ours
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  bool owned() const;  // re-reads the file: false once somebody else took it over. Thread safe; Error{io}
  void touch() const;  // to be called every 30 s by the training loop
  const std::string& note() const { return note_; }  // "took over the lock of ...", empty normally

 private:
  void acquire(const LockOptions& options);
  bool try_create(const LockOwner& self);
  bool take_over(const LockOwner& found, const std::string& reason, double stale_s);
  std::optional<std::string> token_in_file() const;
  void clean_up();

  FileSystem& files_;
  std::string directory_, path_, token_, note_;
};

// exit.json of the run directory: {code, reason, step, message}; scripts trust it, never a launcher's 0.
struct ExitRecord {
  int code = 0;
  std::string reason;  // "finished", "stopped", "diverged", "replicas_differ", ...
  int64_t step = 0;
  std::string message;
};
void write_exit_record(FileSystem& files, const std::string& run_directory, const ExitRecord& record);

}  // namespace farsight
