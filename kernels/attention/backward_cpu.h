// SPDX-License-Identifier: Apache-2.0
// Backward tiles on the CPU, dispatched by Highway at run time. Internal to kernels/attention.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernels/attention/tile_job.h"

namespace farsight {

// Whose turn it is to add to the query gradients of a block of rows: key tiles add in ascending order, so the sums do
// not depend on which thread computes which tile. Tasks must be started in ascending tile order.
class TurnOrder {
 public:
  explicit TurnOrder(const TileJob& job);
  void wait(int64_t b, int64_t h, int64_t q_block, int64_t tile) const;
  void pass_on(int64_t b, int64_t h, int64_t q_block, int64_t tile) const;  // to the next tile with visible pairs

 private:
  std::atomic_ref<int32_t> turn(int64_t b, int64_t h, int64_t q_block) const;

  const TileJob& job_;
  Tensor turns_;  // [B, H, query blocks]
};

// Working memory of one thread, in floats.
int64_t backward_scratch_floats(const TileJob& job);

// Everything that one key tile of (sample b, key head kh) gives. score_vector_sums: [group, padded width] of this task,
// set; null unless the score is additive.
void backward_tile_column(const TileJob& job, const SavedView& saved, const GradientView& gradients,
                          const TurnOrder& turns, int64_t b, int64_t kh, int64_t tile, float* score_vector_sums,
                          float* scratch);

}  // namespace farsight
