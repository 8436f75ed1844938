// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/background_job.h"

#include <chrono>
#include <utility>

namespace farsight {

BackgroundJob::BackgroundJob() : thread_([this] { run(); }) {}

BackgroundJob::~BackgroundJob() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BackgroundJob::start(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    done_.store(false, std::memory_order_release);
    job_ = std::move(job);
  }
  changed_.notify_all();
}

void BackgroundJob::wait(const std::function<void()>& every_100ms) {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::milliseconds(100), [this] { return done(); })) {
    if (!every_100ms) continue;
    lock.unlock();
    every_100ms();
    lock.lock();
  }
}

void BackgroundJob::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || job_; });
    if (!job_) return;
    const std::function<void()> job = std::exchange(job_, nullptr);
    lock.unlock();
    job();
    lock.lock();
    done_.store(true, std::memory_order_release);
    changed_.notify_all();
  }
}

}  // namespace farsight
