// SPDX-License-Identifier: Apache-2.0
#include "parallel/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <string>

#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

uint64_t random_token() {
  std::random_device device;
  return (uint64_t{device()} << 32) ^ device() ^ 1U;
}

// `descriptor` is closed whatever happens.
class Closing {
 public:
  explicit Closing(int descriptor) : descriptor_(descriptor) {}
  ~Closing() { close(descriptor_); }
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;

 private:
  int descriptor_;
};

}  // namespace

SharedSegment::SharedSegment(int64_t bytes) {
  // Whole huge pages, so that the system may use them.
  const int64_t whole = (bytes + kHeader + kHugePage - 1) / kHugePage * kHugePage;
  descriptor_ = memfd_create("farsight-window", MFD_CLOEXEC);
  if (descriptor_ < 0) fail(ErrorKind::environment, "no memory file: {}", std::strerror(errno));
  address_ = {getpid(), descriptor_, whole, random_token()};
  try {
    if (ftruncate(descriptor_, whole) != 0) {
      fail(ErrorKind::environment, "no memory file of {} bytes: {}", whole, std::strerror(errno));
    }
    map(descriptor_);
  } catch (...) {
    seal();
    throw;
  }
  std::memcpy(base_, &address_.token, sizeof(address_.token));
}

SharedSegment::SharedSegment(const Address& address) : address_(address) {
  const std::string path = fmt::format("/proc/{}/fd/{}", address.process, address.descriptor);
  const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) fail(ErrorKind::environment, "cannot open {}: {}", path, std::strerror(errno));
  const Closing closing(descriptor);
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || status.st_size != address.bytes) {
    fail(ErrorKind::environment, "{} is not the memory of the other rank (another process number space?)", path);
  }
  map(descriptor);
  if (std::memcmp(base_, &address.token, sizeof(address.token)) == 0) return;
  munmap(base_, static_cast<size_t>(address.bytes));
  fail(ErrorKind::environment, "{} is not the memory of the other rank (another process number space?)", path);
}

SharedSegment::~SharedSegment() {
  seal();
  munmap(base_, static_cast<size_t>(address_.bytes));
}

void SharedSegment::seal() {
  if (descriptor_ >= 0) close(descriptor_);
  descriptor_ = -1;
}

void SharedSegment::map(int descriptor) {
  const auto bytes = static_cast<size_t>(address_.bytes);
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (base == MAP_FAILED) {
    fail(ErrorKind::environment, "cannot map {} bytes of shared memory: {}", bytes, std::strerror(errno));
  }
  base_ = static_cast<std::byte*>(base);
  madvise(base, bytes, MADV_HUGEPAGE);  // advice: either answer is fine
}

}  // namespace farsight
