// SPDX-License-Identifier: Apache-2.0
// Which tiles a block of an attention kernel computes: those of the other side whose smallest and largest positions and
// documents allow a visible pair (see kernels/attention/mask.h). A warp looks for the next one together, 32 tiles or 32
// groups of 1,024 rows at a time, so that a narrow window over many tokens costs a few reads and not one for each tile.
#pragma once

#include <cstdint>

#include "kernels/attention/block_cuda.h"
#include "kernels/cuda/reduce_cuda.h"
#include "kernels/cuda/vector_cuda.h"

namespace farsight::cuda {

__device__ inline void include(CudaRowBounds& r, const CudaRowBounds& x) {
  r.position_min = x.position_min < r.position_min ? x.position_min : r.position_min;
  r.position_max = x.position_max > r.position_max ? x.position_max : r.position_max;
  r.document_min = x.document_min < r.document_min ? x.document_min : r.document_min;
  r.document_max = x.document_max > r.document_max ? x.document_max : r.document_max;
}

// Bounds of the rows of `count` fine bounds from `begin` on, of which there are `all`.
__device__ inline CudaRowBounds joined(const CudaRowBounds* fine, int64_t begin, int count, int64_t all) {
  const int64_t end = begin + count < all ? begin + count : all;
  CudaRowBounds r = fine[begin];
  for (int64_t i = begin + 1; i < end; ++i) include(r, fine[i]);
  return r;
}

// As kernels/attention/mask.h: whether a tile has visible pairs, and whether all of its pairs are visible.
struct TileVisibility {
  bool any, all;
};
struct TileRule {
  int32_t low, high;
  bool documents;

  __device__ TileVisibility operator()(const CudaRowBounds& q, const CudaRowBounds& k) const {
    const int64_t smallest = int64_t{q.position_min} - k.position_max;
    const int64_t largest = int64_t{q.position_max} - k.position_min;
    if (largest < low || smallest > high) return {false, false};
    if (documents && (q.document_max < k.document_min || k.document_max < q.document_min)) return {false, false};
    const bool one = q.document_min == q.document_max && k.document_min == k.document_max;
    return {true, smallest >= low && largest <= high && (!documents || one)};
  }
};

// The first of the tiles [tile, tiles) with tile_any(tile), or `tiles`. A group of kGroupTiles without group_any(group)
// has none. lowest(test) gives the lowest of 32 lanes with test(lane), or 32 where there is none.
template <int kGroupTiles, class Lowest, class TileAny, class GroupAny>
__device__ int find_tile(int tile, int tiles, const Lowest& lowest, const TileAny& tile_any,
                         const GroupAny& group_any) {
  const int groups = (tiles + kGroupTiles - 1) / kGroupTiles;
  // Tiles first: where many are visible the next one is near.
  while (tile < tiles) {
    const int near = lowest([&](int lane) { return tile + lane < tiles && tile_any(tile + lane); });
    if (near < 32) return tile + near;
    tile += 32;
    int group = tile / kGroupTiles;
    for (int ahead = 32; ahead == 32 && group < groups;) {
      ahead = lowest([&](int lane) { return group + lane < groups && group_any(group + lane); });
      group += ahead;
    }
    if (tile < group * kGroupTiles) tile = group * kGroupTiles;
  }
  return tiles;
}

enum class Side : int { queries, keys };

// The tiles of kColumns rows of the other side that the rows of a block see; kOwn says on which side these rows are.
// Lives in shared memory: the kernels need their registers for results, and a compiler may hold nothing of this in
// registers beyond a barrier.
template <Side kOwn, int kColumns>
struct TileSearch {
  static constexpr int kBounds = kColumns / static_cast<int>(kCudaBoundRows);
  static constexpr int kGroupTiles = static_cast<int>(kCudaGroupRows) / kColumns;
  static_assert(kColumns % kCudaBoundRows == 0 && kCudaGroupRows % kColumns == 0);

  CudaRowBounds own;
  const CudaRowBounds *fine, *groups;  // of the other side's sample
  int64_t fine_bounds;
  int tiles;
  TileRule rule;

  // Rows [first, first + rows) of sample b. By one thread; the others wait at a barrier.
  __device__ void begin(const CudaAttention& a, int64_t b, int64_t first, int rows) {
    constexpr bool kQueries = kOwn == Side::queries;
    const int64_t own_tokens = kQueries ? a.q_tokens : a.k_tokens, tokens = kQueries ? a.k_tokens : a.q_tokens;
    own = joined((kQueries ? a.q_bounds : a.k_bounds) + b * cuda_bounds(own_tokens), first / kCudaBoundRows,
                 rows / static_cast<int>(kCudaBoundRows), cuda_fine_bounds(own_tokens));
    fine_bounds = cuda_fine_bounds(tokens);
    fine = (kQueries ? a.k_bounds : a.q_bounds) + b * cuda_bounds(tokens);
    groups = fine + fine_bounds;
    tiles = static_cast<int>(ceil_div(tokens, kColumns));
    rule = {a.low, a.high, a.q_documents != nullptr};
  }

  __device__ TileVisibility with(const CudaRowBounds& other) const {
    return kOwn == Side::queries ? rule(own, other) : rule(other, own);
  }
  __device__ TileVisibility visibility(int64_t tile) const {
    return with(joined(fine, tile * kBounds, kBounds, fine_bounds));
  }

  // The first tile from `tile` on that has visible pairs, or `tiles`. All lanes of a warp call it with the same tile;
  // warps that do so come to the same result without waiting for each other.
  __device__ int64_t next(int64_t tile) const {
    return find_tile<kGroupTiles>(
        static_cast<int>(tile), tiles,
        [](const auto& test) { return lowest_lane(test(static_cast<int>(threadIdx.x) % 32)); },
        [this](int at) { return visibility(at).any; }, [this](int group) { return with(groups[group]).any; });
  }

  // The same over the tiles of `heads` heads, one head after another: step = head * tiles + tile.
  __device__ int64_t next_step(int64_t step, int64_t heads) const {
    if (step >= heads * tiles) return step;
    for (int64_t head = step / tiles; head < heads; ++head) {
      const int64_t tile = next(step - head * tiles);
      step = head * tiles + tile;
      if (tile < tiles) break;
    }
    return step;
  }
};

}  // namespace farsight::cuda
