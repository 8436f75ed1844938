// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/sdpa_rects.h"

#include "kernels/attention/sdpa_cuda.h"

namespace farsight {
namespace {

// The largest integer <= a / b for b > 0.
int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

bool bounded_below(const MaskRule& rule) { return rule.low > -kSdpaNoHigh; }
bool bounded_above(const MaskRule& rule) { return rule.high < kSdpaNoHigh; }

// The visible part of one pair of runs, whose positions differ by `ahead` at the first rows. queries == 0: nothing.
SdpaRect visible_part(const MaskRule& rule, const PositionRun& q, const PositionRun& k, int64_t step) {
  const int64_t ahead = q.first - k.first;
  SdpaRect rect{0, q.rows, 0, k.rows, kSdpaNoLow, kSdpaNoHigh, 0};
  int64_t query_end = q.rows, key_end = k.rows;
  const int64_t low = bounded_below(rule) ? ceil_div(rule.low - ahead, step) : 0;
  const int64_t high = bounded_above(rule) ? floor_div(rule.high - ahead, step) : 0;
  if (bounded_below(rule) && bounded_above(rule) && low > high) query_end = 0;  // the band lies between two steps
  if (bounded_below(rule)) rect.query = std::max<int64_t>(0, low);
  if (bounded_above(rule)) query_end = std::min(query_end, k.rows + high);
  rect.queries = std::max<int64_t>(0, query_end - rect.query);
  if (rect.queries == 0) return rect;
  if (bounded_above(rule)) rect.key = std::max<int64_t>(0, rect.query - high);
  if (bounded_below(rule)) key_end = std::min(key_end, query_end - low);
  rect.keys = std::max<int64_t>(0, key_end - rect.key);
  if (rect.keys == 0) rect.queries = 0;  // a window that lies beyond the keys
  rect.shift = rect.query - rect.key;
  if (bounded_below(rule)) rect.low = static_cast<int32_t>(low);
  if (bounded_above(rule)) rect.high = static_cast<int32_t>(high);
  return rect;
}

}  // namespace

std::vector<PositionRun> position_runs(std::span<const int32_t> positions) {
  std::vector<PositionRun> runs;
  for (size_t at = 0; at < positions.size();) {
    PositionRun run{1, positions[at], 1};
    if (at + 1 < positions.size()) run.step = positions[at + 1] - positions[at];
    size_t end = at + 1;
    while (end < positions.size() && positions[end] - positions[end - 1] == run.step) ++end;
    run.rows = static_cast<int64_t>(end - at);
    if (run.rows == 1) run.step = 1;
    runs.push_back(run);
    at = end;
  }
  return runs;
}

std::optional<std::vector<SdpaRect>> sdpa_rects(const MaskRule& rule, std::span<const PositionRun> queries,
                                                std::span<const PositionRun> keys) {
  std::vector<SdpaRect> rects;
  int64_t first_query = 0;
  for (const PositionRun& q : queries) {
    int64_t first_key = 0;
    for (const PositionRun& k : keys) {
      const int64_t step = q.rows > 1 ? q.step : k.rows > 1 ? k.step : 1;
      if (step < 1 || (k.rows > 1 && k.step != step)) return std::nullopt;
      SdpaRect rect = visible_part(rule, q, k, step);
      if (rect.queries > 0) {
        rect.query += first_query;
        rect.key += first_key;
        if (rects.size() == kMostRects) return std::nullopt;
        rects.push_back(rect);
      }
      first_key += k.rows;
    }
    first_query += q.rows;
  }
  return rects;
}

}  // namespace farsight
