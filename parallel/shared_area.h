// SPDX-License-Identifier: Apache-2.0
// Memory that all ranks of a group on one node can address, and counters that say how far each of them has come.
//
// Work is cut into steps, numbered from 0 over the life of the communicator; each rank raises its own two counters:
//   contributed  what this rank gives to the step lies where the others can read it
//   worked       this rank has done its share of the step: nobody waits for it, and it reads no more of what the
//                others gave
// There are two kinds of area:
//   windows  each rank copies what it gives into its own window, kSlots steps deep (ranks are processes)
//   direct   the ranks read and write each other's buffers where they are (ranks are threads of one process)
//
// A counter is written by its rank alone, with release order after the memory it speaks of, and read with acquire
// order. Operations of one communicator use the area one after another, in the order in which they were called.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace farsight {

inline constexpr int64_t kSlots = 2;  // steps that a rank may contribute ahead of the slowest

// Of one rank; lies in memory that all can write to. Two cache lines, because lines are fetched in pairs.
struct alignas(64) SharedCounters {
  std::atomic<int64_t> contributed{0};  // steps
  std::atomic<int64_t> worked{0};
  // Which operation the first step of an operation belongs to, by step % kSlots: ranks that disagree notice.
  std::array<std::atomic<uint64_t>, kSlots> call{};
  // Direct areas: the buffers of the operation under way. Written before `contributed`.
  const std::byte* source = nullptr;
  std::byte* target = nullptr;
  std::array<std::byte, 64> unused{};
};
static_assert(std::atomic<int64_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free,
              "counters are shared between processes");

// The area as one rank sees it. Used by that rank's thread only; what it points to is shared.
class SharedArea {
 public:
  struct Shape {
    int ranks;
    int64_t piece_bytes;  // a step handles this much of a buffer, 1/ranks of it by each rank
    bool with_team;       // all threads of a rank work and copy, not its first alone
  };
  // `counters`: one per rank. `windows`: ranks * window_bytes(...), or null for a direct area.
  SharedArea(int rank, const Shape& shape, SharedCounters* counters, std::byte* windows);
  virtual ~SharedArea() = default;
  SharedArea(const SharedArea&) = delete;
  SharedArea& operator=(const SharedArea&) = delete;

  static int64_t window_bytes(const Shape& shape);  // per rank
  // What suits ranks that work with `threads` threads each and windows of at most `limit` bytes.
  static Shape suitable_shape(int ranks, int threads, int64_t limit);

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  bool with_team() const { return with_team_; }
  bool direct() const { return windows_ == nullptr; }
  int64_t part_bytes() const { return part_bytes_; }                 // a rank's share of a step; whole cache lines
  int64_t slot_bytes() const { return (ranks_ - 1) * part_bytes_; }  // parts of all ranks but the owner of the slot
  std::byte* slot(int owner, int64_t step) const;
  SharedCounters& counters(int rank) const { return counters_[rank]; }

  // Steps of operations are numbered when the operations are called, and they take place in that order.
  int64_t reserve(int64_t steps);
  int64_t next_step() const { return finished_; }  // the first that belongs to an unfinished operation
  void finish(int64_t steps) { finished_ += steps; }

  void publish_contributed(int64_t steps);
  void publish_worked(int64_t steps);
  // Whether all ranks have come to `steps`. If not, throws where one that is missing has ended.
  bool all_contributed(int64_t steps);
  bool all_worked(int64_t steps);

  // Direct areas: between the two no rank's buffers go away. False if one's have gone, until it is known that the rank
  // has ended, which throws; nothing is held then.
  virtual bool hold_buffers() { return true; }
  virtual void release_buffers() {}
  // Direct areas: this rank's buffers go away before the operation has finished. Returns when nobody uses them.
  virtual void withdraw_buffers() {}

 protected:
  virtual bool has_ended(int) const { return false; }
  virtual void report_ended(int) const {}  // throws
  virtual void wake_others() {}

 private:
  bool all_at(std::atomic<int64_t> SharedCounters::*counter, int64_t& known, int64_t steps);

  int rank_, ranks_;
  bool with_team_;
  int64_t part_bytes_;
  SharedCounters* counters_;
  std::byte* windows_;
  int64_t reserved_ = 0, finished_ = 0;
  int64_t contributed_by_all_ = 0, worked_by_all_ = 0;  // at least
};

}  // namespace farsight
