// SPDX-License-Identifier: Apache-2.0
// Threads that work on a sequence of items; results come back in the order of the items, so the output of a program
// does not depend on the number of threads.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace farsight {

template <typename In, typename Out>
class OrderedPool {
 public:
  using Work = std::function<Out(In)>;

  // make_work() is called once per thread: its result may own scratch. One thread means the calling one.
  OrderedPool(int threads, const std::function<Work()>& make_work) : inline_work_(threads <= 1 ? make_work() : Work()) {
    for (int i = 0; threads > 1 && i < threads; ++i) {
      threads_.emplace_back([this, work = make_work()] { run(work); });
    }
  }
  ~OrderedPool() {
    {
      const std::lock_guard guard(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  OrderedPool(const OrderedPool&) = delete;
  OrderedPool& operator=(const OrderedPool&) = delete;

  // Items given and not yet taken back.
  size_t in_flight() const { return order_.size(); }

  void submit(In item) {
    auto job = std::make_shared<Job>(Job{std::move(item), Out{}, nullptr, false});
    order_.push_back(job);
    if (threads_.empty()) return perform(*job, inline_work_);
    {
      const std::lock_guard guard(mutex_);
      queue_.push_back(std::move(job));
    }
    changed_.notify_all();
  }

  // The result of the oldest item; waits for it, rethrows what its work threw.
  Out take() {
    const std::shared_ptr<Job> job = order_.front();
    order_.pop_front();
    std::unique_lock guard(mutex_);
    changed_.wait(guard, [&] { return job->done; });
    if (job->error) std::rethrow_exception(job->error);
    return std::move(job->out);
  }

 private:
  struct Job {
    In in;
    Out out;
    std::exception_ptr error;
    bool done;  // guarded by mutex_
  };

  void perform(Job& job, const Work& work) {
    try {
      job.out = work(std::move(job.in));
    } catch (...) {
      job.error = std::current_exception();
    }
    {
      const std::lock_guard guard(mutex_);
      job.done = true;
    }
    changed_.notify_all();
  }

  void run(const Work& work) {
    while (true) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock guard(mutex_);
        changed_.wait(guard, [&] { return stopping_ || !queue_.empty(); });
        if (stopping_) return;
        job = std::move(queue_.front());
        queue_.pop_front();
      }
      perform(*job, work);
    }
  }

  Work inline_work_;
  std::vector<std::thread> threads_;
  std::deque<std::shared_ptr<Job>> order_;  // the caller's
  std::deque<std::shared_ptr<Job>> queue_;  // guarded by mutex_
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
};

}  // namespace farsight
