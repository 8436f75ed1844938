// SPDX-License-Identifier: Apache-2.0
// Collectives through memory that the ranks share (shared_area). In each step every rank
//   contributes  copies its parts for the others into its window             (nothing to do in a direct area)
//   works        on its own part: reads what the others gave, in rank order
//   collects     copies back what the others worked out                      (all_reduce in windows)
// An all_reduce writes the sums over the very contributions that they were formed from. Each cache line then wanders
// from one core to another and back and is owned at each stop: 2 (n-1)/n of the data crosses between cores per rank,
// and a step of a few 100 KiB stays in the second-level cache. Own slots for the sums cost half as much again.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "parallel/comm.h"
#include "parallel/rank_engine.h"
#include "parallel/shared_area.h"

namespace farsight {

// The area must outlive the operation. Buffers as in Communicator. An operation that is destroyed unfinished while its
// rank fails leaves the others waiting until they learn of it; its buffers are not touched any more.
template <typename T>
std::unique_ptr<Operation> shared_all_reduce(SharedArea& area, std::span<T> data, ReduceOp op);

std::unique_ptr<Operation> shared_reduce_scatter(SharedArea& area, std::span<const float> data, std::span<float> mine,
                                                 std::span<const int64_t> counts, ReduceOp op);

std::unique_ptr<Operation> shared_all_gather(SharedArea& area, std::span<const std::byte> mine,
                                             std::span<std::byte> all, std::span<const int64_t> counts);

}  // namespace farsight
