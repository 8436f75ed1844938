// SPDX-License-Identifier: Apache-2.0
// Every file call of checkpoints, the run lock and LATEST goes through this interface, so that tests can make any of
// them fail, stop, or forget what was not synced. FileSystem is the thin virtual layer (one member per system call);
// OutputFile, InputFile and the functions below it hold the loops and turn errno into Error{io}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace farsight {

struct FileStatus {
  bool directory = false;
  int64_t bytes = 0;
  int64_t modified_ns = 0;  // by the clock of the file system
};

// Every member returns >= 0 on success and -errno on failure, and may be called from any thread.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual int open_read(const std::string& path) = 0;         // descriptor
  virtual int create_exclusive(const std::string& path) = 0;  // descriptor, write only; -EEXIST if the name is taken
  virtual int64_t write(int descriptor, const void* data, size_t bytes) = 0;            // may be short
  virtual int64_t pread(int descriptor, void* data, size_t bytes, int64_t offset) = 0;  // may be short
  virtual int sync_data(int descriptor) = 0;
  virtual int close(int descriptor) = 0;
  virtual int status(const std::string& path, FileStatus& out) = 0;
  virtual int list(const std::string& directory, std::vector<std::string>& names) = 0;  // without . and ..
  virtual int make_directory(const std::string& path) = 0;
  virtual int sync_directory(const std::string& path) = 0;
  virtual int rename(const std::string& from, const std::string& to) = 0;
  virtual int remove_file(const std::string& path) = 0;
  virtual int remove_directory(const std::string& path) = 0;  // empty ones only
  virtual int touch(const std::string& path) = 0;             // modification time := now
  virtual int64_t free_bytes(const std::string& path) = 0;    // what an unprivileged writer may still use
};

std::unique_ptr<FileSystem> make_posix_file_system();

// A new file under an unused name. Nothing counts as written before sync() and close() have returned; a failed sync is
// never retried. The destructor closes without a report.
class OutputFile {
 public:
  OutputFile(FileSystem& files, std::string path);  // Error{io} if it exists or cannot be made
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> data);  // all of it, over short writes and EINTR; Error{io}
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void sync();
  void close();
  int64_t bytes_written() const { return written_; }

 private:
  FileSystem& files_;
  std::string path_;
  int descriptor_;
  int64_t written_ = 0;
};

class InputFile {
 public:
  InputFile(FileSystem& files, std::string path);  // Error{io}
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  int64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }
  // Exactly data.size() bytes from offset; Error{io} also at the end of the file. Thread safe.
  void read(std::span<std::byte> data, int64_t offset) const;

 private:
  FileSystem& files_;
  std::string path_;
  int descriptor_;
  int64_t bytes_ = 0;
};

// Error{io} "WHAT PATH: reason" unless result >= 0; returns the result.
int64_t check_io(int64_t result, std::string_view what, const std::string& path);

bool exists(FileSystem& files, const std::string& path);
void make_directories(FileSystem& files, const std::string& path);  // and its parents; existing ones are fine
void remove_tree(FileSystem& files, const std::string& path);       // a missing path is fine
std::vector<std::string> list_sorted(FileSystem& files, const std::string& directory);
// Whole file; Error{io} when it is larger than max_bytes.
std::string read_text(FileSystem& files, const std::string& path, int64_t max_bytes);
// Atomic and durable: temporary name, sync, rename, directory sync. A reader sees the old text or the new.
void replace_file(FileSystem& files, const std::string& path, std::string_view text);
std::string parent_directory(const std::string& path);

}  // namespace farsight
