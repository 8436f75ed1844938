// SPDX-License-Identifier: Apache-2.0
// Memory that processes of one user on one node share. One process makes it, the others map it; it is gone when the
// last of them ends, however it ends, and needs no room in /dev/shm (Linux: a memory file, reached through /proc).
// Pages take memory when they are first touched.
#pragma once

#include <cstddef>
#include <cstdint>

namespace farsight {

class SharedSegment {
 public:
  // What another process must know to map the segment; plain bytes.
  struct Address {
    int64_t process = 0, descriptor = 0, bytes = 0;
    uint64_t token = 0;  // stands in the segment, so that no other can be taken for it
  };

  // `bytes` of zeros. Throws Error{environment}.
  explicit SharedSegment(int64_t bytes);
  // The segment of another process. Throws Error{environment} if that cannot be reached.
  explicit SharedSegment(const Address& address);
  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  std::byte* data() const { return base_ + kHeader; }  // page-aligned
  const Address& address() const { return address_; }
  // All have mapped it: nobody else can.
  void seal();

 private:
  static constexpr int64_t kHeader = 4096;
  void map(int descriptor);

  Address address_;
  std::byte* base_ = nullptr;
  int descriptor_ = -1;
};

}  // namespace farsight
