// SPDX-License-Identifier: Apache-2.0
#include "parallel/inproc_comm.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "kernels/random.h"
#include "parallel/message_communicator.h"
#include "parallel/shared_threads.h"
#include "parallel/transport.h"

namespace farsight {

namespace {

// Mail between threads. A send copies its bytes and is finished; a receive looks for them when it is tested.
class MailRoom {
 public:
  using Key = std::tuple<uint64_t, int, int, int>;  // group, source, destination (world ranks), tag

  MailRoom(int ranks, const CommOptions& options, int threads_per_rank)
      : ended_(static_cast<size_t>(ranks)),
        threads_per_rank_(threads_per_rank),
        window_bytes_(options.window_bytes),
        direct_(options.direct) {}

  void put(const Key& key, const std::byte* data, int64_t bytes) {
    std::vector<std::byte> letter(data, data + bytes);
    const std::lock_guard lock(mutex_);
    Box& box = mail_[key];
    box.letters.emplace(box.sent++, std::move(letter));
    changed_.notify_all();
  }

  // Receives take letters in the order in which they were posted, whatever order they are tested in.
  uint64_t post(const Key& key) {
    const std::lock_guard lock(mutex_);
    return mail_[key].posted++;
  }

  // A letter that was sent is delivered, whatever became of its sender: ranks that leave one after the other with an
  // error they agreed on have all finished the collectives before it. Only a wait for one who has left fails.
  bool take(const Key& key, uint64_t number, std::byte* data, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    Box& box = mail_[key];
    const auto found = box.letters.find(number);
    if (found == box.letters.end()) {
      if (has_ended(std::get<1>(key))) fail_for(std::get<1>(key), std::get<2>(key));
      return false;
    }
    const std::vector<std::byte> letter = std::move(found->second);
    box.letters.erase(found);
    if (static_cast<int64_t>(letter.size()) != bytes) {
      fail(ErrorKind::internal, "rank {} received {} bytes from rank {}, expected {}: calls do not match",
           std::get<2>(key), letter.size(), std::get<1>(key), bytes);
    }
    if (bytes > 0) std::memcpy(data, letter.data(), letter.size());
    return true;
  }

  bool has_ended(int rank) const { return ended_[static_cast<size_t>(rank)].load(std::memory_order_acquire); }

  // `waiting` learns that `missing` will never answer.
  [[noreturn]] void report_ended(int missing, int waiting) {
    const std::lock_guard lock(mutex_);
    fail_for(missing, waiting);
  }

  // What the members of a group hold together; lives as long as one of them does.
  std::shared_ptr<ThreadGroup> group(uint64_t key, int ranks) {
    const std::lock_guard lock(mutex_);
    std::weak_ptr<ThreadGroup>& known = groups_[key];
    std::shared_ptr<ThreadGroup> group = known.lock();
    if (!group) {
      const auto shape = SharedArea::suitable_shape(ranks, threads_per_rank_, window_bytes_);
      known = group = std::make_shared<ThreadGroup>(shape, direct_);
    }
    return group;
  }

  void wake() { changed_.notify_all(); }

  void wait_a_little() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::microseconds(100));
  }

  // A rank has ended; the first error is the job's, and ranks that wait for this one end too, in turn.
  void end(int rank, const std::exception_ptr& error) {
    const std::lock_guard lock(mutex_);
    if (error && !error_) {
      error_ = error;
      failed_rank_ = rank;
    }
    ended_[static_cast<size_t>(rank)].store(true, std::memory_order_release);
    changed_.notify_all();
  }

  std::exception_ptr error() const { return error_; }

 private:
  struct Box {
    uint64_t sent = 0, posted = 0;
    std::map<uint64_t, std::vector<std::byte>> letters;  // by number of the sending
  };

  [[noreturn]] void fail_for(int missing, int waiting) const {
    if (error_) fail(ErrorKind::environment, "rank {} has failed; this rank stops too", failed_rank_);
    fail(ErrorKind::internal, "rank {} waits for rank {}, which has returned", waiting, missing);
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Key, Box> mail_;
  std::map<uint64_t, std::weak_ptr<ThreadGroup>> groups_;
  std::vector<std::atomic<bool>> ended_;
  int threads_per_rank_;
  int64_t window_bytes_;
  bool direct_;
  std::exception_ptr error_;
  int failed_rank_ = -1;
};

class FinishedMessage final : public Message {
 public:
  bool test() override { return true; }
};

class IncomingMessage final : public Message {
 public:
  IncomingMessage(MailRoom& room, MailRoom::Key key, std::byte* data, int64_t bytes)
      : room_(room), key_(std::move(key)), number_(room.post(key_)), data_(data), bytes_(bytes) {}
  bool test() override {
    finished_ = finished_ || room_.take(key_, number_, data_, bytes_);
    return finished_;
  }

 private:
  MailRoom& room_;
  MailRoom::Key key_;
  uint64_t number_;
  std::byte* data_;
  int64_t bytes_;
  bool finished_ = false;
};

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(MailRoom& room, uint64_t group, std::vector<int> members, int rank)
      : room_(room), group_(group), members_(std::move(members)), rank_(rank) {
    if (size() > 1) area_ = make_thread_area(room.group(group, size()), rank, events());
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }

  MessagePtr send(const std::byte* data, int64_t bytes, int to, int tag) override {
    room_.put({group_, world_rank(rank_), world_rank(to), tag}, data, bytes);
    return std::make_unique<FinishedMessage>();
  }
  MessagePtr receive(std::byte* data, int64_t bytes, int from, int tag) override {
    return std::make_unique<IncomingMessage>(room_, MailRoom::Key{group_, world_rank(from), world_rank(rank_), tag},
                                             data, bytes);
  }
  void idle(int64_t fruitless) override {
    if (fruitless < 16) {
      std::this_thread::yield();
    } else {
      room_.wait_a_little();
    }
  }
  std::unique_ptr<Transport> split(int colour, int, const std::vector<int>& members, uint64_t serial) override {
    std::vector<int> world;
    int mine = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      if (members[i] == rank_) mine = static_cast<int>(i);
      world.push_back(world_rank(members[i]));
    }
    const uint64_t fields[] = {group_, serial, static_cast<uint64_t>(static_cast<int64_t>(colour))};
    return std::make_unique<ThreadTransport>(room_, hash64(fields), std::move(world), mine);
  }
  SharedArea* shared() override { return area_.get(); }
  [[noreturn]] void abort(int code) override {
    fail(ErrorKind::environment, "rank {} ended the job with exit code {}", world_rank(rank_), code);
  }

 private:
  int world_rank(int r) const { return members_[static_cast<size_t>(r)]; }
  ThreadEvents events() {
    return {[this](int r) { return room_.has_ended(world_rank(r)); },
            [this](int r) { room_.report_ended(world_rank(r), world_rank(rank_)); }, [this] { room_.wake(); }};
  }

  MailRoom& room_;
  uint64_t group_;
  std::vector<int> members_;
  int rank_;
  std::unique_ptr<SharedArea> area_;
};

void run_rank(MailRoom& room, int rank, int ranks, const std::function<void(Communicator&)>& body,
              const CommOptions& options, int threads) {
  std::exception_ptr error;
  try {
    set_thread_count(threads);
    std::vector<int> members;
    for (int r = 0; r < ranks; ++r) members.push_back(r);
    MessageCommunicator world(std::make_unique<ThreadTransport>(room, 0, std::move(members), rank),
                              std::make_shared<RankEngine>(options), "world");
    body(world);
  } catch (...) {
    error = std::current_exception();
  }
  room.end(rank, error);
}

}  // namespace

void run_in_process(int ranks, const std::function<void(Communicator& world)>& body, const CommOptions& options,
                    int threads_per_rank) {
  if (ranks < 1) fail(ErrorKind::internal, "run_in_process: {} ranks", ranks);
  MailRoom room(ranks, options, threads_per_rank);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back(run_rank, std::ref(room), r, ranks, std::cref(body), std::cref(options), threads_per_rank);
  }
  for (auto& t : threads) t.join();
  if (room.error()) std::rethrow_exception(room.error());
}

}  // namespace farsight
