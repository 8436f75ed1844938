// SPDX-License-Identifier: Apache-2.0
// The shared area of ranks that are threads of one process.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/shared_area.h"

namespace farsight {

// What the ranks of one group hold together.
class ThreadGroup {
 public:
  // Without `direct` there are windows, as between processes.
  ThreadGroup(const SharedArea::Shape& shape, bool direct);

  // A rank's buffers can be used while its door is held shared and open.
  struct Door {
    std::shared_mutex mutex;
    bool closed = false;
  };

  const SharedArea::Shape shape;
  std::vector<SharedCounters> counters;
  std::unique_ptr<Door[]> doors;
  Tensor windows;  // undefined: direct
};

// How the ranks of the group learn of each other's end.
struct ThreadEvents {
  std::function<bool(int rank)> has_ended;
  std::function<void(int rank)> report_ended;  // throws
  std::function<void()> wake;
};

std::unique_ptr<SharedArea> make_thread_area(std::shared_ptr<ThreadGroup> group, int rank, ThreadEvents events);

}  // namespace farsight
