// SPDX-License-Identifier: Apache-2.0
#include "kernels/arena.h"

#include <algorithm>
#include <iterator>
#include <vector>

namespace farsight {
namespace {

int64_t rounded(int64_t bytes, int64_t unit) { return std::max(unit, (bytes + unit - 1) / unit * unit); }

}  // namespace

Arena::~Arena() {
  std::set<std::byte*> chunks;
  for (const auto& [address, range] : ranges_) chunks.insert(range.chunk);
  for (std::byte* chunk : chunks) chunks_source_->release(chunk);
}

bool Arena::add_chunk(int64_t bytes) {
  ++system_calls_;
  auto* chunk = static_cast<std::byte*>(chunks_source_->allocate(bytes));
  if (chunk == nullptr) return false;
  reserved_ += bytes;
  ranges_[chunk] = {bytes, chunk, true};
  free_.emplace(bytes, chunk);
  return true;
}

// Chunks in which nothing is in use go back: their sum may be what one large request needs.
void Arena::drop_free_chunks() {
  for (auto range = ranges_.begin(); range != ranges_.end();) {
    const auto next = std::next(range);
    const bool begins = range->second.chunk == range->first;
    const bool ends = next == ranges_.end() || next->second.chunk != range->second.chunk;
    if (range->second.free && begins && ends) {
      take_out(range);
      reserved_ -= range->second.bytes;
      chunks_source_->release(range->first);
      ranges_.erase(range);
    }
    range = next;
  }
}

bool Arena::grow(int64_t bytes) {
  const int64_t least = rounded(bytes, kLeastChunk / 16);
  if (add_chunk(std::max(least, std::clamp(reserved_, kLeastChunk, kLargestChunk)))) return true;
  if (add_chunk(least)) return true;
  drop_free_chunks();
  return add_chunk(least);
}

void* Arena::allocate(int64_t bytes) {
  const int64_t wanted = rounded(bytes, kAlignment);
  auto found = free_.lower_bound({wanted, nullptr});
  if (found == free_.end()) {
    if (!grow(wanted)) return nullptr;
    found = free_.lower_bound({wanted, nullptr});
  }
  const auto range = ranges_.find(found->second);
  take_out(range);
  range->second.free = false;
  const int64_t left = range->second.bytes - wanted;
  if (left > 0) {
    range->second.bytes = wanted;
    ranges_[range->first + wanted] = {left, range->second.chunk, true};
    free_.emplace(left, range->first + wanted);
  }
  return range->first;
}

void Arena::set_free(Ranges::iterator range) {
  range->second.free = true;
  free_.emplace(range->second.bytes, range->first);
}

void Arena::release(void* pointer) noexcept {
  auto range = ranges_.find(static_cast<std::byte*>(pointer));
  if (range == ranges_.end() || range->second.free) return;
  const auto joins = [&](Ranges::iterator other) {
    return other->second.free && other->second.chunk == range->second.chunk;
  };
  if (const auto next = std::next(range); next != ranges_.end() && joins(next)) {
    take_out(next);
    range->second.bytes += next->second.bytes;
    ranges_.erase(next);
  }
  if (range != ranges_.begin() && joins(std::prev(range))) {
    const auto before = std::prev(range);
    take_out(before);
    before->second.bytes += range->second.bytes;
    ranges_.erase(range);
    range = before;
  }
  set_free(range);
}

}  // namespace farsight
