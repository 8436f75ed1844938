// SPDX-License-Identifier: Apache-2.0
#include "parallel/shared_area.h"

#include <algorithm>
#include <limits>

namespace farsight {

namespace {

constexpr int64_t kLine = 64;

int64_t part_of(const SharedArea::Shape& shape) {
  return std::max(kLine, shape.piece_bytes / shape.ranks / kLine * kLine);
}

}  // namespace

SharedArea::SharedArea(int rank, const Shape& shape, SharedCounters* counters, std::byte* windows)
    : rank_(rank),
      ranks_(shape.ranks),
      with_team_(shape.with_team),
      part_bytes_(part_of(shape)),
      counters_(counters),
      windows_(windows) {}

int64_t SharedArea::window_bytes(const Shape& shape) { return kSlots * (shape.ranks - 1) * part_of(shape); }

// A thread's share of kSlots pieces, of its buffer and of the windows that it reads, fits into a second-level cache of
// 1 to 2 MiB.
SharedArea::Shape SharedArea::suitable_shape(int ranks, int threads, int64_t limit) {
  constexpr int64_t kPerThread = int64_t{256} << 10;
  return {ranks, std::max(kLine, std::min(kPerThread * threads, limit / kSlots)), threads > 1};
}

std::byte* SharedArea::slot(int owner, int64_t step) const {
  return windows_ + (owner * kSlots + step % kSlots) * slot_bytes();
}

int64_t SharedArea::reserve(int64_t steps) {
  const int64_t first = reserved_;
  reserved_ += steps;
  return first;
}

void SharedArea::publish_contributed(int64_t steps) {
  counters_[rank_].contributed.store(steps, std::memory_order_release);
  wake_others();
}

void SharedArea::publish_worked(int64_t steps) {
  counters_[rank_].worked.store(steps, std::memory_order_release);
  wake_others();
}

bool SharedArea::all_contributed(int64_t steps) {
  return all_at(&SharedCounters::contributed, contributed_by_all_, steps);
}

bool SharedArea::all_worked(int64_t steps) { return all_at(&SharedCounters::worked, worked_by_all_, steps); }

bool SharedArea::all_at(std::atomic<int64_t> SharedCounters::*counter, int64_t& known, int64_t steps) {
  if (known >= steps) return true;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int r = 0; r < ranks_; ++r) {
    const std::atomic<int64_t>& its = counters_[r].*counter;
    int64_t value = its.load(std::memory_order_acquire);
    // What a rank has done before it ended counts.
    if (value < steps && has_ended(r)) {
      value = its.load(std::memory_order_acquire);
      if (value < steps) report_ended(r);
    }
    if (value < steps) return false;
    least = std::min(least, value);
  }
  known = least;
  return true;
}

}  // namespace farsight
