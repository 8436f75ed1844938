// SPDX-License-Identifier: Apache-2.0
// Wraps a file system and makes its calls fail, stop, crawl or end the process. Thread safe.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "trainer/file_system.h"

namespace farsight {

struct FaultPlan {
  // Counting every call that changes anything, from 0: when `stop_at` is reached the call has no effect and neither
  // have later ones (the process is dead, nobody tidies up). -1: never.
  int64_t stop_at = -1;
  std::function<void()> on_stop;  // e.g. _exit in a child process
  // From the moment `fail_after_bytes` bytes have been written, writes fail with this errno; 0: never.
  int write_errno = 0;
  int64_t fail_after_bytes = 0;
  int sync_errno = 0;  // every sync_data fails with it
  int close_errno = 0;
  int rename_errno = 0;
  size_t longest_write = 0;  // writes and reads are cut to this many bytes; 0: not
  bool interrupt = false;    // every other read and write fails with EINTR
  double write_delay_s = 0;  // per write
  std::string only_path;     // faults act only where the path holds this; empty: everywhere
};

class FaultyFileSystem : public FileSystem {
 public:
  FaultyFileSystem(FileSystem& inner, FaultPlan plan) : inner_(inner), plan_(std::move(plan)) {}

  int64_t changes() const { return changes_; }  // calls counted against stop_at
  bool stopped() const { return stopped_; }
  int most_writers_at_once() const { return most_writers_; }

  int open_read(const std::string& path) override { return stopped_ ? -EIO : inner_.open_read(path); }
  int create_exclusive(const std::string& path) override;
  int64_t write(int descriptor, const void* data, size_t bytes) override;
  int64_t pread(int descriptor, void* data, size_t bytes, int64_t offset) override;
  int sync_data(int descriptor) override;
  int close(int descriptor) override;
  int status(const std::string& path, FileStatus& out) override { return stopped_ ? -EIO : inner_.status(path, out); }
  int list(const std::string& path, std::vector<std::string>& names) override {
    return stopped_ ? -EIO : inner_.list(path, names);
  }
  int make_directory(const std::string& path) override { return alive() ? inner_.make_directory(path) : -EIO; }
  int sync_directory(const std::string& path) override { return alive() ? inner_.sync_directory(path) : -EIO; }
  int rename(const std::string& from, const std::string& to) override;
  int remove_file(const std::string& path) override { return alive() ? inner_.remove_file(path) : -EIO; }
  int remove_directory(const std::string& path) override { return alive() ? inner_.remove_directory(path) : -EIO; }
  int touch(const std::string& path) override { return alive() ? inner_.touch(path) : -EIO; }
  int64_t free_bytes(const std::string& path) override { return stopped_ ? -EIO : inner_.free_bytes(path); }

 private:
  bool alive();
  bool concerns(const std::string& path) const;
  bool faulty(int descriptor) const;

  FileSystem& inner_;
  const FaultPlan plan_;
  std::atomic<int64_t> changes_{0}, written_{0}, calls_{0};
  std::atomic<bool> stopped_{false};
  std::atomic<int> writers_{0}, most_writers_{0};
  // Descriptor -> the faults act on it. Descriptors of both file systems are small.
  std::vector<std::atomic<char>> faulty_ = std::vector<std::atomic<char>>(1 << 16);
};

}  // namespace farsight
