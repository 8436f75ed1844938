// SPDX-License-Identifier: Apache-2.0
// The course of an operation in a SharedArea, common to all collectives: which stage of which step may come next.
#pragma once

#include <cstddef>
#include <cstdint>

#include "parallel/rank_engine.h"
#include "parallel/shared_area.h"

namespace farsight {

class SharedOperation : public Operation {
 public:
  ~SharedOperation() override;
  SharedOperation(const SharedOperation&) = delete;
  SharedOperation& operator=(const SharedOperation&) = delete;
  // Does what can be done without waiting. Throws Error{internal} when the ranks have called different operations.
  bool advance() final;

 protected:
  struct Call {
    int64_t steps;
    uint64_t identity;        // equal on all ranks that have called the same
    const std::byte* source;  // buffers of a direct area
    std::byte* target;
    bool collects;  // in windows
  };
  SharedOperation(SharedArea& area, const Call& call);

  virtual void contribute(int64_t step) = 0;  // windows only
  virtual void work(int64_t step) = 0;
  virtual void collect(int64_t) {}

  SharedArea& area() const { return area_; }
  // Where the slot of `giver` holds what it gives to `taker` in this step of the operation.
  std::byte* place(int giver, int taker, int64_t step) const;
  std::byte* slot(int owner, int64_t step) const { return area_.slot(owner, first_ + step); }
  void copy(std::byte* to, const std::byte* from, int64_t bytes) const;

 private:
  bool try_contribute();
  bool try_work();
  bool try_collect();
  void compare_calls() const;
  bool complete();

  SharedArea& area_;
  Call call_;
  int64_t first_;  // step of the area with which the operation begins
  int64_t contributed_ = 0, worked_ = 0, collected_ = 0;
  bool done_ = false;
};

}  // namespace farsight
