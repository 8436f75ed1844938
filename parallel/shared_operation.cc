// SPDX-License-Identifier: Apache-2.0
#include "parallel/shared_operation.h"

#include <algorithm>
#include <cstring>

#include "kernels/error.h"
#include "kernels/parallel_for.h"

namespace farsight {

namespace {

// The buffers of all ranks stay while one of these exists; `held` says whether they do.
class BufferHold {
 public:
  explicit BufferHold(SharedArea& area) : held(area.hold_buffers()), area_(area) {}
  ~BufferHold() {
    if (held) area_.release_buffers();
  }
  BufferHold(const BufferHold&) = delete;
  BufferHold& operator=(const BufferHold&) = delete;

  const bool held;

 private:
  SharedArea& area_;
};

}  // namespace

SharedOperation::SharedOperation(SharedArea& area, const Call& call)
    : area_(area), call_(call), first_(area.reserve(call.steps)) {}

SharedOperation::~SharedOperation() {
  if (!done_ && contributed_ > 0) area_.withdraw_buffers();
}

std::byte* SharedOperation::place(int giver, int taker, int64_t step) const {
  const int index = taker < giver ? taker : taker - 1;
  return slot(giver, step) + index * area_.part_bytes();
}

bool SharedOperation::advance() {
  if (area_.next_step() != first_) return false;  // an earlier operation has the area
  for (;;) {
    const bool contributed = try_contribute();
    const bool worked = try_work();
    const bool collected = try_collect();
    if (complete()) break;
    if (!contributed && !worked && !collected) return false;
  }
  area_.finish(call_.steps);
  done_ = true;
  return true;
}

bool SharedOperation::try_contribute() {
  if (contributed_ == call_.steps) return false;
  const int64_t step = first_ + contributed_;
  SharedCounters& mine = area_.counters(area_.rank());
  if (area_.direct()) {
    mine.source = call_.source;
    mine.target = call_.target;
    contributed_ = call_.steps;
  } else {
    if (call_.collects && contributed_ - collected_ == kSlots) return false;
    if (!area_.all_worked(step + 1 - kSlots)) return false;
    contribute(contributed_++);
  }
  if (step == first_) mine.call[static_cast<size_t>(first_ % kSlots)].store(call_.identity, std::memory_order_relaxed);
  area_.publish_contributed(first_ + contributed_);
  return true;
}

bool SharedOperation::try_work() {
  if (worked_ == contributed_ || !area_.all_contributed(first_ + worked_ + 1)) return false;
  if (worked_ == 0) compare_calls();
  const BufferHold hold(area_);
  if (!hold.held) return false;
  work(worked_++);
  area_.publish_worked(first_ + worked_);
  return true;
}

bool SharedOperation::try_collect() {
  if (!call_.collects || area_.direct() || collected_ == worked_) return false;
  if (!area_.all_worked(first_ + collected_ + 1)) return false;
  collect(collected_++);
  return true;
}

bool SharedOperation::complete() {
  // In a direct area the others may still read from, or write to, the buffers of this rank.
  if (area_.direct()) return worked_ == call_.steps && area_.all_worked(first_ + call_.steps);
  return (call_.collects ? collected_ : worked_) == call_.steps;
}

void SharedOperation::compare_calls() const {
  for (int r = 0; r < area_.ranks(); ++r) {
    const auto its = area_.counters(r).call[static_cast<size_t>(first_ % kSlots)].load(std::memory_order_relaxed);
    if (its == call_.identity) continue;
    fail(ErrorKind::internal,
         "rank {} and rank {} of a communicator have called collectives of different kind or size; all ranks must call "
         "the same collectives in the same order (checked collectives name the place)",
         area_.rank(), r);
  }
}

void SharedOperation::copy(std::byte* to, const std::byte* from, int64_t bytes) const {
  constexpr int64_t kBlock = 4096;
  constexpr int64_t kGrain = 16;  // blocks: less is not worth a second thread
  if (bytes == 0) return;
  if (!area_.with_team()) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
    return;
  }
  parallel_for((bytes + kBlock - 1) / kBlock, kGrain, [&](int64_t first, int64_t last) {
    const int64_t begin = first * kBlock;
    std::memcpy(to + begin, from + begin, static_cast<size_t>(std::min(last * kBlock, bytes) - begin));
  });
}

}  // namespace farsight
