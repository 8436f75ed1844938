// SPDX-License-Identifier: Apache-2.0
// Forward tiles on the CPU, dispatched by Highway at run time. Internal to kernels/attention.
#pragma once

#include <cstdint>

#include "kernels/attention/tile_job.h"

namespace farsight {

// Packed operands of one (sample, key head): K^T (additive: e^2b transposed) and V of every key tile.
struct ForwardPanels {
  explicit ForwardPanels(const TileJob& job)
      : key_tile(job.tile_keys * job.keys.width), value_tile(job.tile_keys * padded_width(job.keys.value_width)) {}
  int64_t floats(const TileJob& job) const { return job.key_tiles * (key_tile + value_tile); }
  float* keys(float* unit, int64_t tile) const { return unit + tile * (key_tile + value_tile); }
  float* values(float* unit, int64_t tile) const { return keys(unit, tile) + key_tile; }
  int64_t key_tile, value_tile;
};

// Working memory of one thread, in floats.
int64_t forward_scratch_floats(const TileJob& job);

// Packs key tile `tile` of (sample b, key head kh) into `unit`.
void forward_pack(const TileJob& job, int64_t b, int64_t kh, int64_t tile, float* unit);

// Merges all keys into the state rows of one query block of (sample b, query head h).
void forward_rows(const TileJob& job, AttentionState& state, int64_t b, int64_t h, int64_t q_block, float* unit,
                  float* scratch);

}  // namespace farsight
