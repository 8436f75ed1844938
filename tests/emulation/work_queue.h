// SPDX-License-Identifier: Apache-2.0
// What an emulated stream holds: pieces of work that run in their order, when somebody needs them. A piece may have to
// wait for another rank (a collective). Then whoever waits drives the queues of all ranks as far as their collectives
// go, because the host of the other rank may itself be waiting for this one, while its device would be at work.
// Thread safe: any thread may drive any queue, one at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

namespace farsight::emulation {

using Work = std::function<bool()>;  // false: not yet, ask again

class WorkQueue {
 public:
  // Returns the number of pieces that were ever added.
  uint64_t add(Work work);
  uint64_t added() const;
  // Runs what it can; true once the first `position` pieces are done. Errors of the work are kept.
  bool advance(uint64_t position);
  // Throws the first error since the last call.
  void rethrow();
  // Others may drive this queue up to here.
  void demand(uint64_t position) { demanded_ = position; }
  uint64_t demanded() const { return demanded_; }

 private:
  enum class Step : uint8_t { done, blocked, ran };
  Step step(uint64_t position);

  mutable std::mutex mutex_;
  std::deque<Work> queue_;
  uint64_t finished_ = 0, added_ = 0;
  bool busy_ = false;
  std::exception_ptr error_;
  std::atomic<uint64_t> demanded_{0};
};

// Adds work that waits for other ranks: whoever waits for something may drive the queue up to it.
void add_shared(const std::shared_ptr<WorkQueue>& queue, Work work);

// Drives the queue, and those of other ranks, until `position`; throws the errors of its work. Throws
// std::runtime_error when nothing on any device has moved for FARSIGHT_EMULATION_PATIENCE_MS (60000): a hang.
void wait_for(const std::shared_ptr<WorkQueue>& queue, uint64_t position);
// The same without waiting: whether it is done now.
bool try_for(const std::shared_ptr<WorkQueue>& queue, uint64_t position);

}  // namespace farsight::emulation
