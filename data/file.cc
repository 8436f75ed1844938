// SPDX-License-Identifier: Apache-2.0
#include "data/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace farsight {

namespace {

[[noreturn]] void fail_errno(const std::string& path, const char* action) {
  const int code = errno;
  fail(code == ENOENT || code == EISDIR ? ErrorKind::data : ErrorKind::io, "{}: {}: {} (errno {}){}", path, action,
       std::strerror(code), code, code == ENOENT ? "; check the path" : "");
}

}  // namespace

std::string with_commas(int64_t number) {
  std::string digits = fmt::format("{}", number);
  const size_t first = number < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

File File::open_read(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_errno(path, "cannot open");
  File file(fd, path);
  struct stat info {};
  if (fstat(fd, &info) != 0) fail_errno(path, "cannot stat");
  if (S_ISDIR(info.st_mode)) fail(ErrorKind::data, "{}: is a folder, not a file", path);
  return file;
}

File File::create_new(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) {
    const int code = errno;
    fail(ErrorKind::io, "{}: cannot create: {} (errno {})", path, std::strerror(code), code);
  }
  return {fd, path};
}

File File::create_temporary(const std::string& folder) {
  std::string name = folder + "/.farsight-spool-XXXXXX";
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) {
    const int code = errno;
    fail(ErrorKind::io, "{}: cannot create a temporary file: {} (errno {}){}", folder, std::strerror(code), code,
         code == ENOENT ? "; create the folder or choose another -o" : "");
  }
  ::unlink(name.c_str());
  return {fd, name};
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

File::File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

int64_t File::size() const {
  struct stat info {};
  if (fstat(fd_, &info) != 0) fail_errno(path_, "cannot stat");
  return info.st_size;
}

size_t File::read_some(void* out, size_t bytes) {
  while (true) {
    const ssize_t got = ::read(fd_, out, bytes);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) fail_errno(path_, "read error");
  }
}

void File::read_at(int64_t offset, void* out, size_t bytes) const {
  auto* target = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = ::pread(fd_, target, bytes, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int code = errno;
      fail(ErrorKind::io, "{}: read error at byte {}: {} (errno {})", path_, with_commas(offset), std::strerror(code),
           code);
    }
    if (got == 0) {
      fail(ErrorKind::data, "{}: ends at byte {}, {} more expected: truncated or changed while in use", path_,
           with_commas(offset), with_commas(static_cast<int64_t>(bytes)));
    }
    target += got;
    offset += got;
    bytes -= static_cast<size_t>(got);
  }
}

void File::write(const void* data, size_t bytes) {
  const auto* source = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = ::write(fd_, source, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      const int code = errno;
      fail(ErrorKind::io, "{}: write error: {} (errno {})", path_, std::strerror(code), code);
    }
    source += put;
    bytes -= static_cast<size_t>(put);
  }
}

void File::sync() {
  if (::fsync(fd_) != 0) fail_errno(path_, "fsync");
}

void File::close() {
  if (fd_ >= 0 && ::close(std::exchange(fd_, -1)) != 0) fail_errno(path_, "close");
}

TemporaryPath::~TemporaryPath() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string file_name_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

bool path_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

void rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return;
  const int code = errno;
  fail(ErrorKind::io, "{}: cannot rename to {}: {} (errno {})", from, to, std::strerror(code), code);
}

void sync_path(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_errno(path, "cannot open to fsync");
  const int result = ::fsync(fd);
  const int code = errno;
  ::close(fd);
  if (result != 0) fail(ErrorKind::io, "{}: fsync: {} (errno {})", path, std::strerror(code), code);
}

std::string read_whole(const std::string& path, int64_t limit) {
  const File file = File::open_read(path);
  const int64_t size = file.size();
  if (size > limit) {
    fail(ErrorKind::data, "{}: {} bytes, more than the {} allowed", path, with_commas(size), with_commas(limit));
  }
  std::string text(static_cast<size_t>(size), '\0');
  file.read_at(0, text.data(), text.size());
  return text;
}

void write_whole(const std::string& path, std::string_view text) {
  TemporaryPath temporary(fmt::format("{}/.{}.tmp-{}", folder_of(path), file_name_of(path), ::getpid()));
  File file = File::create_new(temporary.path());
  file.write(text.data(), text.size());
  file.sync();
  file.close();
  rename_path(temporary.path(), path);
  temporary.keep();
  sync_path(folder_of(path));
}

std::string read_head(const std::string& path, size_t bytes) {
  const File file = File::open_read(path);
  std::string text(std::min(bytes, static_cast<size_t>(file.size())), '\0');
  file.read_at(0, text.data(), text.size());
  return text;
}

bool on_network_file_system(const File& file) {
  struct statfs info {};
  if (fstatfs(file.descriptor(), &info) != 0) return true;
  // NFS, SMB, CIFS, SMB2, Lustre, GPFS, Ceph, FUSE, AFS, 9P, BeeGFS, PanFS (magic numbers of statfs(2) and vendors).
  constexpr std::array<uint32_t, 12> kNetwork = {0x6969,     0x517B,     0xFF534D42, 0xFE534D42,
                                                 0x0BD00BD0, 0x47504653, 0x00C36400, 0x65735546,
                                                 0x5346414F, 0x01021997, 0x19830326, 0xAAD7AAEA};
  return std::find(kNetwork.begin(), kNetwork.end(), static_cast<uint32_t>(info.f_type)) != kNetwork.end();
}

}  // namespace farsight
