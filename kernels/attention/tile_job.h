// SPDX-License-Identifier: Apache-2.0
// What the tile kernels of one attention call share: arguments, tile classes, packed operands, policies in the form the
// inner loops read. Internal to kernels/attention.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "kernels/attention/block.h"
#include "kernels/attention/mask.h"
#include "kernels/tensor.h"

namespace farsight {

// Keys are classified in sub-blocks of 48 (three AVX-512 vectors) and computed in tiles of whole sub-blocks; only the
// sub-blocks between the first and the last visible one of a tile are computed.
inline constexpr int64_t kSubKeys = 48;
// Rows x keys of a tile, measured at D = 64, T = 4096 on a 2-core AVX-512 VM, fraction of the FMA peak forward /
// backward: 48 x 96 0.78 / 0.75, 48 x 192 0.79 / 0.79, 96 x 96 0.78 / 0.75, 96 x 192 0.77 / 0.77, 48 x 288 - / 0.81.
// At T = 256, 96 rows lose a tenth to the diagonal, and 288 keys a thirtieth.
inline constexpr int64_t kForwardRows = 48;
inline constexpr int64_t kForwardKeys = 4 * kSubKeys;
inline constexpr int64_t kBackwardRows = 48;
inline constexpr int64_t kBackwardKeys = 4 * kSubKeys;
inline constexpr int64_t kMaxLanes = 16;

constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
constexpr int64_t padded_width(int64_t width) { return round_up(width, kMaxLanes); }

// Cuts a thread's working memory into aligned arrays; with a null base it only adds up the size.
class ScratchCarver {
 public:
  explicit ScratchCarver(float* base) : base_(base) {}
  float* take(int64_t floats) {
    float* const start = base_ != nullptr ? base_ + used_ : nullptr;
    used_ += round_up(floats, kMaxLanes);
    return start;
  }
  int64_t used() const { return used_; }

 private:
  float* base_;
  int64_t used_ = 0;
};

// A masked score: e^(masked - m) is exactly 0, and no infinity enters a product.
inline constexpr float kMaskedScore = -3e38F;
inline constexpr float kLowestScore = -1e38F;  // visible scores lie above

// Columns [first, last) of one tile, relative to its first key; partial = the mask must be evaluated.
struct TileColumns {
  int64_t first = 0, last = 0;
  bool partial = false;
};

// The arguments as pointers and strides. Element (b, t, h, d) of q is q[(b * tokens + t) * row_stride + h * width + d].
struct QueryView {
  explicit QueryView(const AttentionSpec& spec, const AttentionQueries& from);
  const float* q;
  int64_t row_stride, batch, tokens, heads, width;
  const int32_t *positions, *documents;
  const uint64_t* dropout_keys;
  const float* score_vectors;
  int64_t first_head;
};
struct KeyView {
  explicit KeyView(const AttentionSpec& spec, const AttentionKeys& from);
  const float *k, *v;
  int64_t k_stride, v_stride, tokens, heads, width, value_width;
  const int32_t *positions, *documents;
};
struct SavedView {
  explicit SavedView(const AttentionRowSaved& from);
  const float *lse, *row_term, *grad_entropy, *dout;
  int64_t dout_stride;
};
struct GradientView {
  explicit GradientView(const AttentionGradients& from);
  float* dq;
  int64_t dq_stride;
  float* dk;
  int64_t dk_stride;
  float* dv;
  int64_t dv_stride;
};

// Positions and documents of the keys padded to whole tiles and, for dropout, which Philox block each key's word lies
// in: `quads` lists the distinct pos >> 2 of a tile in order of appearance, word j of the tile is word index[j] of
// them.
struct TileKeys {
  TileKeys(const AttentionSpec& spec, const KeyView& keys, int64_t batch, int64_t tile_keys);
  const int32_t* positions(int64_t b, int64_t tile) const { return at(0, b, tile); }
  const int32_t* documents(int64_t b, int64_t tile) const { return at(1, b, tile); }
  const int32_t* quads(int64_t b, int64_t tile) const { return at(2, b, tile); }
  const int32_t* index(int64_t b, int64_t tile) const { return at(3, b, tile); }
  int64_t quad_count(int64_t b, int64_t tile) const { return counts[b * tiles + tile]; }

  int64_t tiles, tile_keys, plane;
  Tensor storage;
  int32_t* counts;

 private:
  const int32_t* at(int64_t array, int64_t b, int64_t tile) const {
    return storage.data<int32_t>() + array * plane + (b * tiles + tile) * tile_keys;
  }
  void fill_quads(const int32_t* positions, int32_t* quads, int32_t* index, int32_t& count) const;
};

struct TileJob {
  TileJob(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys, int64_t tile_rows,
          int64_t tile_keys);

  // Visible columns of (query block, key tile); empty when first == last.
  TileColumns columns(int64_t b, int64_t q_block, int64_t tile) const;
  RowBounds tile_bounds(int64_t b, int64_t tile) const;
  // First tile >= from with visible columns, or key_tiles.
  int64_t next_tile(int64_t b, int64_t q_block, int64_t from) const;
  int64_t rows_of(int64_t q_block) const { return std::min(tile_rows, queries.tokens - q_block * tile_rows); }
  int64_t keys_of(int64_t tile) const { return std::min(tile_keys, keys.tokens - tile * tile_keys); }
  int64_t group() const { return queries.heads / keys.heads; }
  // After every tile: counts it and lets the calling thread poll.
  void tile_done(const TileColumns& columns) const;

  const AttentionSpec& spec;
  QueryView queries;
  KeyView keys;
  int64_t tile_rows, tile_keys, query_blocks, key_tiles;
  MaskRule rule;
  float scale;
  uint32_t keep_threshold;
  float keep_factor;
  BlockBounds query_bounds, key_bounds;
  TileKeys tile_index;
  ProgressHook hook;
  void* hook_context;
  AttentionTileCount* count;
  std::thread::id caller;
};

}  // namespace farsight
