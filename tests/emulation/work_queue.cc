// SPDX-License-Identifier: Apache-2.0
#include "tests/emulation/work_queue.h"

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace farsight::emulation {
namespace {

std::atomic<uint64_t>& pieces_done() {  // by all queues: what does not grow hangs
  static std::atomic<uint64_t> count{0};
  return count;
}

struct SharedQueues {
  std::mutex mutex;
  std::vector<std::weak_ptr<WorkQueue>> queues;
};
SharedQueues& shared_queues() {
  static SharedQueues queues;
  return queues;
}

void drive_all() {
  std::vector<std::shared_ptr<WorkQueue>> alive;
  {
    SharedQueues& shared = shared_queues();
    const std::lock_guard lock(shared.mutex);
    std::erase_if(shared.queues, [](const auto& q) { return q.expired(); });
    for (const auto& q : shared.queues) {
      if (auto queue = q.lock()) alive.push_back(std::move(queue));
    }
  }
  for (const auto& queue : alive) queue->advance(queue->demanded());
}

std::chrono::milliseconds patience() {
  const char* text = std::getenv("FARSIGHT_EMULATION_PATIENCE_MS");
  return std::chrono::milliseconds(text == nullptr ? 60000 : std::atoi(text));
}

}  // namespace

uint64_t WorkQueue::add(Work work) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(work));
  return ++added_;
}

uint64_t WorkQueue::added() const {
  const std::lock_guard lock(mutex_);
  return added_;
}

WorkQueue::Step WorkQueue::step(uint64_t position) {
  Work* work = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (finished_ >= position) return Step::done;
    if (busy_) return Step::blocked;
    busy_ = true;
    work = &queue_.front();  // stays where it is while others add
  }
  std::exception_ptr error;
  bool done = true;
  try {
    done = (*work)();
  } catch (...) {
    error = std::current_exception();
  }
  Work over;  // destroyed after the lock
  const std::lock_guard lock(mutex_);
  busy_ = false;
  if (error && !error_) error_ = error;
  if (!done) return Step::blocked;
  over = std::move(queue_.front());
  queue_.pop_front();
  ++finished_;
  ++pieces_done();
  return Step::ran;
}

bool WorkQueue::advance(uint64_t position) {
  Step last = Step::ran;
  while (last == Step::ran) last = step(position);
  return last == Step::done;
}

void WorkQueue::rethrow() {
  std::exception_ptr error;
  {
    const std::lock_guard lock(mutex_);
    std::swap(error, error_);
  }
  if (error) std::rethrow_exception(error);
}

void add_shared(const std::shared_ptr<WorkQueue>& queue, Work work) {
  const bool first = queue->demanded() == 0;
  queue->demand(queue->add(std::move(work)));
  if (!first) return;
  SharedQueues& shared = shared_queues();
  const std::lock_guard lock(shared.mutex);
  shared.queues.push_back(queue);
}

bool try_for(const std::shared_ptr<WorkQueue>& queue, uint64_t position) {
  bool done = queue->advance(position);
  if (!done) {
    drive_all();
    done = queue->advance(position);
  }
  queue->rethrow();
  return done;
}

void wait_for(const std::shared_ptr<WorkQueue>& queue, uint64_t position) {
  uint64_t moved = pieces_done();
  auto since = std::chrono::steady_clock::now();
  while (!try_for(queue, position)) {
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    const auto now = std::chrono::steady_clock::now();
    if (moved != pieces_done()) {
      moved = pieces_done();
      since = now;
    } else if (now - since > patience()) {
      throw std::runtime_error("the device hangs: no rank's work has moved for " + std::to_string(patience().count()) +
                               " ms");
    }
  }
}

}  // namespace farsight::emulation
