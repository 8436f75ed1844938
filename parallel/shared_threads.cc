// SPDX-License-Identifier: Apache-2.0
#include "parallel/shared_threads.h"

#include <mutex>
#include <utility>

namespace farsight {

namespace {

class ThreadArea final : public SharedArea {
 public:
  ThreadArea(std::shared_ptr<ThreadGroup> group, int rank, ThreadEvents events)
      : SharedArea(rank, group->shape, group->counters.data(),
                   group->windows.defined() ? static_cast<std::byte*>(group->windows.raw()) : nullptr),
        group_(std::move(group)),
        events_(std::move(events)) {}

  bool hold_buffers() override {
    if (!direct()) return true;
    for (int r = 0; r < ranks(); ++r) {
      ThreadGroup::Door& door = group_->doors[static_cast<size_t>(r)];
      door.mutex.lock_shared();
      if (!door.closed) continue;
      release(r + 1);
      if (has_ended(r)) report_ended(r);
      return false;
    }
    return true;
  }
  void release_buffers() override {
    if (direct()) release(ranks());
  }
  void withdraw_buffers() override {
    ThreadGroup::Door& door = group_->doors[static_cast<size_t>(rank())];
    const std::unique_lock lock(door.mutex);
    door.closed = true;
  }

 protected:
  bool has_ended(int r) const override { return events_.has_ended(r); }
  void report_ended(int r) const override { events_.report_ended(r); }
  void wake_others() override { events_.wake(); }

 private:
  void release(int count) {
    for (int r = 0; r < count; ++r) group_->doors[static_cast<size_t>(r)].mutex.unlock_shared();
  }

  std::shared_ptr<ThreadGroup> group_;
  ThreadEvents events_;
};

}  // namespace

ThreadGroup::ThreadGroup(const SharedArea::Shape& group_shape, bool direct)
    : shape(group_shape),
      counters(static_cast<size_t>(shape.ranks)),
      doors(std::make_unique<Door[]>(static_cast<size_t>(shape.ranks))) {
  if (direct) return;
  windows =
      Tensor::empty({shape.ranks * SharedArea::window_bytes(shape)}, DType::u8, MemoryTag::communication, Device::cpu);
}

std::unique_ptr<SharedArea> make_thread_area(std::shared_ptr<ThreadGroup> group, int rank, ThreadEvents events) {
  return std::make_unique<ThreadArea>(std::move(group), rank, std::move(events));
}

}  // namespace farsight
