// SPDX-License-Identifier: Apache-2.0
// Which parts of a block of queries and keys a band mask leaves, as rectangles in which positions grow evenly: what a
// library that knows indices but no positions can compute. A causal row cut in the zigzag order has four, of which one
// is empty or one full; evenly striped rows have one, whose diagonal is moved.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/attention/mask.h"

namespace farsight {

// Rows of a sample whose positions are first, first + step, first + 2 step ..; step 1 for a single row.
struct PositionRun {
  int64_t rows = 0, first = 0, step = 1;
  bool operator==(const PositionRun&) const = default;
};
// The longest runs from the beginning on.
std::vector<PositionRun> position_runs(std::span<const int32_t> positions);

// Query i and key j of the rectangle (from 0) see each other iff low <= i + shift - j <= high; every query sees a key.
struct SdpaRect {
  int64_t query = 0, queries = 0, key = 0, keys = 0;  // first row and rows
  int32_t low = 0, high = 0;                          // as in CudaSdpa
  int64_t shift = 0;
};
// All rectangles with visible pairs; none when the mask leaves nothing. Empty optional: the runs do not fit together
// (several steps), or there would be more than kMostRects.
inline constexpr size_t kMostRects = 8;
std::optional<std::vector<SdpaRect>> sdpa_rects(const MaskRule& rule, std::span<const PositionRun> queries,
                                                std::span<const PositionRun> keys);

}  // namespace farsight
