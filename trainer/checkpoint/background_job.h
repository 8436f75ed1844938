// SPDX-License-Identifier: Apache-2.0
// One thread that runs one job at a time for its owner. start() and wait() belong to the owner's thread; done() is an
// atomic and tells that everything the job wrote may be read.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace farsight {

class BackgroundJob {
 public:
  BackgroundJob();
  ~BackgroundJob();  // waits for the job in hand
  BackgroundJob(const BackgroundJob&) = delete;
  BackgroundJob& operator=(const BackgroundJob&) = delete;

  // The previous job must be done; the job must not throw.
  void start(std::function<void()> job);
  bool done() const { return done_.load(std::memory_order_acquire); }
  void wait(const std::function<void()>& every_100ms);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> job_;
  bool stop_ = false;
  std::atomic<bool> done_{true};
  std::thread thread_;
};

}  // namespace farsight
