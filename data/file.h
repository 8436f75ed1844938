// SPDX-License-Identifier: Apache-2.0
// Files of the operating system as the data tools need them: owned descriptors, exact reads, durable renames. Every
// failure is an Error{io} (Error{data} for a file that is not there) with path, offset and errno in words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace farsight {

// "81,224": numbers in messages, independent of the locale.
std::string with_commas(int64_t number);

// An open file descriptor.
class File {
 public:
  File() = default;
  static File open_read(const std::string& path);   // Error{data} when there is no such file, Error{io} otherwise
  static File create_new(const std::string& path);  // read and write; Error{io} when it exists
  static File create_temporary(const std::string& folder);  // without a name: gone when closed, or when killed
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  bool is_open() const { return fd_ >= 0; }
  int descriptor() const { return fd_; }
  const std::string& path() const { return path_; }
  int64_t size() const;
  // Reads up to `bytes` at the current position; 0 at the end.
  size_t read_some(void* out, size_t bytes);
  // Exactly `bytes` at `offset`; Error{data} "ends at ..." when the file is shorter.
  void read_at(int64_t offset, void* out, size_t bytes) const;
  void write(const void* data, size_t bytes);
  void sync();
  void close();

 private:
  File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  std::string path_;
};

// Removes a file when it goes out of scope, unless keep() was called.
class TemporaryPath {
 public:
  explicit TemporaryPath(std::string path) : path_(std::move(path)) {}
  ~TemporaryPath();
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;
  const std::string& path() const { return path_; }
  void keep() { path_.clear(); }

 private:
  std::string path_;
};

std::string folder_of(const std::string& path);     // "." for a bare name
std::string file_name_of(const std::string& path);  // without folders
bool path_exists(const std::string& path);
void rename_path(const std::string& from, const std::string& to);
void sync_path(const std::string& path);  // file or folder

// Whole file; Error{data} when it is larger than `limit`.
std::string read_whole(const std::string& path, int64_t limit);
// Replaces the file at once: written beside it, synced, renamed.
void write_whole(const std::string& path, std::string_view text);
// What the file begins with (at most `bytes`).
std::string read_head(const std::string& path, size_t bytes);

// On a file system that other machines write too: mapping it would turn their errors into SIGBUS.
bool on_network_file_system(const File& file);

}  // namespace farsight
