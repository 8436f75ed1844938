// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/faulty_file_system.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

namespace farsight {

bool FaultyFileSystem::alive() {
  if (stopped_) return false;
  if (changes_++ != plan_.stop_at) return true;
  stopped_ = true;
  if (plan_.on_stop) plan_.on_stop();
  return false;
}

bool FaultyFileSystem::concerns(const std::string& path) const {
  return plan_.only_path.empty() || path.find(plan_.only_path) != std::string::npos;
}

bool FaultyFileSystem::faulty(int descriptor) const {
  return faulty_[static_cast<size_t>(descriptor) % faulty_.size()] != 0;
}

int FaultyFileSystem::create_exclusive(const std::string& path) {
  if (!alive()) return -EIO;
  const int descriptor = inner_.create_exclusive(path);
  if (descriptor >= 0) faulty_[static_cast<size_t>(descriptor) % faulty_.size()] = concerns(path) ? 1 : 0;
  return descriptor;
}

int64_t FaultyFileSystem::write(int descriptor, const void* data, size_t bytes) {
  if (!alive()) return -EIO;
  if (!faulty(descriptor)) return inner_.write(descriptor, data, bytes);
  if (plan_.interrupt && calls_++ % 2 == 0) return -EINTR;
  const int writers = ++writers_;
  most_writers_ = std::max(most_writers_.load(), writers);
  if (plan_.write_delay_s > 0) std::this_thread::sleep_for(std::chrono::duration<double>(plan_.write_delay_s));
  --writers_;
  if (plan_.longest_write != 0) bytes = std::min(bytes, plan_.longest_write);
  if (plan_.write_errno != 0) {
    const int64_t room = plan_.fail_after_bytes - written_;
    if (room <= 0) return -plan_.write_errno;
    bytes = std::min(bytes, static_cast<size_t>(room));
  }
  written_ += static_cast<int64_t>(bytes);
  return inner_.write(descriptor, data, bytes);
}

int64_t FaultyFileSystem::pread(int descriptor, void* data, size_t bytes, int64_t offset) {
  if (stopped_) return -EIO;
  if (plan_.interrupt && calls_++ % 2 == 0) return -EINTR;
  if (plan_.longest_write != 0) bytes = std::min(bytes, plan_.longest_write);
  return inner_.pread(descriptor, data, bytes, offset);
}

int FaultyFileSystem::sync_data(int descriptor) {
  if (!alive()) return -EIO;
  if (plan_.sync_errno != 0 && faulty(descriptor)) return -plan_.sync_errno;
  return inner_.sync_data(descriptor);
}

int FaultyFileSystem::close(int descriptor) {
  const bool failing = faulty(descriptor) && plan_.close_errno != 0;
  faulty_[static_cast<size_t>(descriptor) % faulty_.size()] = 0;
  if (!alive()) {
    inner_.close(descriptor);  // the kernel does it for the dead
    return -EIO;
  }
  const int result = inner_.close(descriptor);
  return failing ? -plan_.close_errno : result;
}

int FaultyFileSystem::rename(const std::string& from, const std::string& to) {
  if (!alive()) return -EIO;
  if (plan_.rename_errno != 0 && concerns(from)) return -plan_.rename_errno;
  return inner_.rename(from, to);
}

}  // namespace farsight
