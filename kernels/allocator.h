// SPDX-License-Identifier: Apache-2.0
// Caching allocator with peak accounting. Freed blocks are kept for the next request of the same size class, so that
// the steady training step allocates nothing from the system. There is one for the host memory of the process, because
// memory is a property of the process and its peak is what users must plan for, and one for each rank on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace farsight {

// What an allocation is for; the largest single allocation is kept per tag, so that tests can prove that no T x T or
// logits-sized buffer ever existed.
enum class MemoryTag : uint8_t {
  activation,
  parameter,
  gradient,
  optimizer,
  attention,
  logits,
  communication,
  data,
  other
};
const char* to_string(MemoryTag tag);

struct MemoryStats {
  int64_t current_bytes = 0;                    // handed out now
  int64_t peak_bytes = 0;                       // most ever handed out at once since the last reset_peak
  int64_t cached_bytes = 0;                     // held for reuse, gaps between blocks in use included
  int64_t system_calls = 0;                     // requests that had to go to the system
  std::map<MemoryTag, int64_t> peak_by_tag;     // most handed out at once, per tag
  std::map<MemoryTag, int64_t> largest_by_tag;  // largest single request, per tag
};

// Where an allocator gets its blocks from.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual void* allocate(int64_t bytes) = 0;  // null: there is none left
  virtual void release(void* pointer) noexcept = 0;
  virtual const char* name() const = 0;  // for messages: "memory", "device memory"
  // A source that gives out released memory again by itself (arena.h): the allocator then keeps no blocks, and asks it
  // how often it went to the system and what it holds.
  virtual bool reuses() const { return false; }
  virtual int64_t system_calls() const { return 0; }
  virtual int64_t reserved_bytes() const { return 0; }
};

class Allocator {
 public:
  Allocator();  // of host memory
  explicit Allocator(std::unique_ptr<MemorySource> source);
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  // 64-byte aligned, uninitialised memory; 0 bytes give a valid pointer that must be released too.
  // Throws Error{environment} naming the size when the system has no memory left. Thread safe.
  void* allocate(int64_t bytes, MemoryTag tag);
  void release(void* pointer) noexcept;
  // The same with an owner that releases it. The allocator must outlive it.
  std::shared_ptr<void> share(int64_t bytes, MemoryTag tag);

  MemoryStats stats() const;
  void reset_peak();     // peak := current, largest := 0
  void release_cache();  // gives cached blocks back to the system

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The allocator of this process's host memory. Blocks from 2 MiB on are advised to use huge pages.
Allocator& host_allocator();

}  // namespace farsight
