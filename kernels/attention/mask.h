// SPDX-License-Identifier: Apache-2.0
// Which tiles of a (query block x key block) pair the mask leaves empty, full or partly visible, decided from the
// smallest and largest position and document id of each block of rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/spec.h"
#include "kernels/tensor.h"

namespace farsight {

// Visible iff low <= query position - key position <= high, and equal documents.
struct MaskRule {
  explicit MaskRule(const AttentionSpec& spec);
  int32_t low, high;
  bool documents;
};

struct RowBounds {
  int32_t position_min = std::numeric_limits<int32_t>::max(), position_max = std::numeric_limits<int32_t>::min();
  int32_t document_min = std::numeric_limits<int32_t>::max(), document_max = std::numeric_limits<int32_t>::min();
  void include(const RowBounds& other);
};

enum class TileClass : uint8_t { empty, full, partial };
TileClass classify(const MaskRule& rule, const RowBounds& queries, const RowBounds& keys);

// Bounds of consecutive blocks of rows of every batch row, and of groups of blocks so that long runs of empty tiles are
// passed quickly. O(tokens / block) memory.
class BlockBounds {
 public:
  // positions, documents [batch, tokens]; documents may be null.
  BlockBounds(int64_t batch, int64_t tokens, int64_t block, const int32_t* positions, const int32_t* documents);

  int64_t blocks() const { return blocks_; }
  const RowBounds& at(int64_t b, int64_t block) const { return fine_[b * blocks_ + block]; }

  // First block >= from whose tile with the given queries / keys is not empty; blocks() when there is none.
  int64_t next_for_queries(const MaskRule& rule, int64_t b, const RowBounds& queries, int64_t from) const;
  int64_t next_for_keys(const MaskRule& rule, int64_t b, const RowBounds& keys, int64_t from) const;

 private:
  template <typename IsEmpty>
  int64_t next(int64_t b, int64_t from, IsEmpty is_empty) const;

  int64_t blocks_ = 0, groups_ = 0;
  Tensor storage_;
  RowBounds* fine_ = nullptr;    // [batch, blocks]
  RowBounds* coarse_ = nullptr;  // [batch, groups]
};

}  // namespace farsight
