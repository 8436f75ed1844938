// SPDX-License-Identifier: Apache-2.0
// Device memory in a few large chunks, from which blocks of any size are cut: the smallest free range that fits, and
// free neighbours become one range again. Requests of changing sizes (another micro-batch, forward against backward)
// share memory, where a cache of blocks by size would keep one block for each; and a step in the steady state asks the
// driver for nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "kernels/allocator.h"

namespace farsight {

class Arena final : public MemorySource {
 public:
  static constexpr int64_t kAlignment = 512;
  static constexpr int64_t kLeastChunk = int64_t{32} << 20, kLargestChunk = int64_t{1} << 30;

  // Takes its chunks from `chunks`: as large as all before together, within the two limits, or as large as the request.
  explicit Arena(std::unique_ptr<MemorySource> chunks) : chunks_source_(std::move(chunks)) {}
  ~Arena() override;

  // Not thread safe. Null when neither a chunk nor a smaller one can be had.
  void* allocate(int64_t bytes) override;
  void release(void* pointer) noexcept override;
  const char* name() const override { return chunks_source_->name(); }
  bool reuses() const override { return true; }
  int64_t system_calls() const override { return system_calls_; }
  int64_t reserved_bytes() const override { return reserved_; }

 private:
  struct Range {
    int64_t bytes = 0;
    std::byte* chunk = nullptr;  // first byte of the chunk it lies in
    bool free = false;
  };
  using Ranges = std::map<std::byte*, Range>;  // all ranges of all chunks by address
  bool grow(int64_t bytes);
  bool add_chunk(int64_t bytes);
  void drop_free_chunks();
  void set_free(Ranges::iterator range);
  void take_out(Ranges::iterator range) { free_.erase({range->second.bytes, range->first}); }

  std::unique_ptr<MemorySource> chunks_source_;
  Ranges ranges_;
  std::set<std::pair<int64_t, std::byte*>> free_;  // by size, then address
  int64_t reserved_ = 0, system_calls_ = 0;
};

}  // namespace farsight
