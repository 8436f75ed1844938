// SPDX-License-Identifier: Apache-2.0
#include "trainer/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "kernels/error.h"

namespace farsight {
namespace {

int or_errno(int result) { return result < 0 ? -errno : result; }
int64_t or_errno(ssize_t result) { return result < 0 ? -errno : result; }

class PosixFileSystem : public FileSystem {
 public:
  int open_read(const std::string& path) override { return or_errno(::open(path.c_str(), O_RDONLY | O_CLOEXEC)); }
  int create_exclusive(const std::string& path) override {
    return or_errno(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  }
  int64_t write(int descriptor, const void* data, size_t bytes) override {
    return or_errno(::write(descriptor, data, bytes));
  }
  int64_t pread(int descriptor, void* data, size_t bytes, int64_t offset) override {
    return or_errno(::pread(descriptor, data, bytes, offset));
  }
  int sync_data(int descriptor) override { return or_errno(::fdatasync(descriptor)); }
  int close(int descriptor) override { return or_errno(::close(descriptor)); }

  int status(const std::string& path, FileStatus& out) override {
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0) return -errno;
    out = {S_ISDIR(found.st_mode), found.st_size, found.st_mtim.tv_sec * 1'000'000'000LL + found.st_mtim.tv_nsec};
    return 0;
  }

  int list(const std::string& directory, std::vector<std::string>& names) override {
    const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(directory.c_str()), ::closedir);
    if (!handle) return -errno;
    names.clear();
    errno = 0;
    while (const dirent* entry = ::readdir(handle.get())) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    return -errno;
  }

  int make_directory(const std::string& path) override { return or_errno(::mkdir(path.c_str(), 0777)); }

  int sync_directory(const std::string& path) override {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return -errno;
    const int result = or_errno(::fsync(descriptor));
    ::close(descriptor);
    return result;
  }

  int rename(const std::string& from, const std::string& to) override {
    return or_errno(::rename(from.c_str(), to.c_str()));
  }
  int remove_file(const std::string& path) override { return or_errno(::unlink(path.c_str())); }
  int remove_directory(const std::string& path) override { return or_errno(::rmdir(path.c_str())); }
  int touch(const std::string& path) override { return or_errno(::utimensat(AT_FDCWD, path.c_str(), nullptr, 0)); }

  int64_t free_bytes(const std::string& path) override {
    struct statvfs found {};
    if (::statvfs(path.c_str(), &found) != 0) return -errno;
    int64_t bytes = 0;
    if (__builtin_mul_overflow(found.f_bavail, found.f_frsize, &bytes)) return std::numeric_limits<int64_t>::max();
    return bytes;
  }
};

void make_one_directory(FileSystem& files, const std::string& path) {
  const int result = files.make_directory(path);
  FileStatus found;
  if (result == -EEXIST && files.status(path, found) >= 0 && found.directory) return;
  check_io(result, "cannot make directory", path);
}

void remove_or_gone(int result, const std::string& path) {
  if (result != -ENOENT) check_io(result, "cannot remove", path);
}

}  // namespace

std::unique_ptr<FileSystem> make_posix_file_system() { return std::make_unique<PosixFileSystem>(); }

int64_t check_io(int64_t result, std::string_view what, const std::string& path) {
  if (result >= 0) return result;
  fail(ErrorKind::io, "{} {}: {}", what, path, std::generic_category().message(static_cast<int>(-result)));
}

OutputFile::OutputFile(FileSystem& files, std::string path)
    : files_(files),
      path_(std::move(path)),
      descriptor_(static_cast<int>(check_io(files.create_exclusive(path_), "cannot create", path_))) {}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) files_.close(descriptor_);
}

void OutputFile::write(std::span<const std::byte> data) {
  while (!data.empty()) {
    const int64_t done = files_.write(descriptor_, data.data(), data.size());
    if (done == -EINTR) continue;
    // A file system that accepts nothing and reports no reason would loop for ever.
    check_io(done == 0 ? -EIO : done, "cannot write", path_);
    written_ += done;
    data = data.subspan(static_cast<size_t>(done));
  }
}

void OutputFile::sync() { check_io(files_.sync_data(descriptor_), "cannot sync", path_); }

void OutputFile::close() {
  const int result = files_.close(std::exchange(descriptor_, -1));
  // Linux has released the descriptor even when it says EINTR, and the data are synced.
  if (result != -EINTR) check_io(result, "cannot close", path_);
}

InputFile::InputFile(FileSystem& files, std::string path)
    : files_(files),
      path_(std::move(path)),
      descriptor_(static_cast<int>(check_io(files.open_read(path_), "cannot open", path_))) {
  FileStatus found;
  const int result = files_.status(path_, found);
  if (result < 0 || found.directory) {
    files_.close(descriptor_);
    check_io(result < 0 ? result : -EISDIR, "cannot read", path_);
  }
  bytes_ = found.bytes;
}

InputFile::~InputFile() { files_.close(descriptor_); }

void InputFile::read(std::span<std::byte> data, int64_t offset) const {
  while (!data.empty()) {
    const int64_t done = files_.pread(descriptor_, data.data(), data.size(), offset);
    if (done == -EINTR) continue;
    check_io(done, "cannot read", path_);
    if (done == 0) fail(ErrorKind::io, "cannot read {}: it ends at byte {}", path_, offset);
    offset += done;
    data = data.subspan(static_cast<size_t>(done));
  }
}

bool exists(FileSystem& files, const std::string& path) {
  FileStatus found;
  const int result = files.status(path, found);
  if (result == -ENOENT || result == -ENOTDIR) return false;
  check_io(result, "cannot look at", path);
  return true;
}

void make_directories(FileSystem& files, const std::string& path) {
  for (size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
    // Parents that exist need no permission to be made again.
    if (!exists(files, path.substr(0, end))) make_one_directory(files, path.substr(0, end));
  }
  make_one_directory(files, path);
}

std::vector<std::string> list_sorted(FileSystem& files, const std::string& directory) {
  std::vector<std::string> names;
  check_io(files.list(directory, names), "cannot list", directory);
  std::sort(names.begin(), names.end());
  return names;
}

void remove_tree(FileSystem& files, const std::string& path) {
  FileStatus found;
  const int result = files.status(path, found);
  if (result == -ENOENT) return;
  if (result < 0 || !found.directory) {
    remove_or_gone(files.remove_file(path), path);
    return;
  }
  for (const std::string& name : list_sorted(files, path)) remove_tree(files, path + "/" + name);
  remove_or_gone(files.remove_directory(path), path);
}

std::string read_text(FileSystem& files, const std::string& path, int64_t max_bytes) {
  const InputFile file(files, path);
  if (file.bytes() > max_bytes) {
    fail(ErrorKind::io, "cannot read {}: {} bytes, at most {} are expected", path, file.bytes(), max_bytes);
  }
  std::string text(static_cast<size_t>(file.bytes()), '\0');
  file.read(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

void replace_file(FileSystem& files, const std::string& path, std::string_view text) {
  const std::string parent = parent_directory(path);
  const std::string temporary = parent + "/.tmp-" + path.substr(path.find_last_of('/') + 1);
  files.remove_file(temporary);  // left by a killed process
  try {
    OutputFile file(files, temporary);
    file.write(text);
    file.sync();
    file.close();
    check_io(files.rename(temporary, path), "cannot rename to", path);
  } catch (const Error&) {
    files.remove_file(temporary);
    throw;
  }
  check_io(files.sync_directory(parent), "cannot sync directory", parent);
}

std::string parent_directory(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace farsight
