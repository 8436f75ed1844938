// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/forward_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/forward_cpu.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/attention/additive-inl.h"
#include "kernels/attention/policies-inl.h"
#include "kernels/attention/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// One thread's buffers. Row state l and u are kept as vectors of partial sums until the last tile.
struct ForwardScratch {
  ForwardScratch(const TileJob& job, ScratchCarver& carver)
      : q(carver.take(job.tile_rows * job.queries.width)),
        s(carver.take(job.tile_rows * job.tile_keys)),
        o(carver.take(job.tile_rows * padded_width(job.keys.value_width))),
        l(carver.take(job.tile_rows * kMaxLanes)),
        u(carver.take(job.tile_rows * kMaxLanes)),
        m(carver.take(job.tile_rows)),
        y2(carver.take(job.queries.width)),
        weights(carver.take(job.tile_keys)),
        words(reinterpret_cast<uint32_t*>(carver.take(4 * job.tile_keys))) {}
  float *q, *s, *o, *l, *u, *m, *y2, *weights;
  uint32_t* words;
};

struct ForwardUnit {  // one (sample, head, query block)
  const TileJob& job;
  AttentionState& state;
  int64_t b, h, first_row, rows;
  ForwardScratch scratch;
  int64_t ldo;  // floats of a row of the output tile
  float y_sum = 0.0F;

  int64_t statistic(int64_t row) const { return (b * job.queries.heads + h) * job.queries.tokens + first_row + row; }
  int64_t token(int64_t row) const { return b * job.queries.tokens + first_row + row; }
  float* state_o(int64_t row) const {
    return state.o.data<float>() + (token(row) * job.queries.heads + h) * job.keys.value_width;
  }
};

void load_queries(ForwardUnit& unit) {
  const auto& queries = unit.job.queries;
  const float* q = queries.q + unit.token(0) * queries.row_stride + unit.h * queries.width;
  float* copy = unit.scratch.q;
  copy_rows(q, queries.row_stride, unit.rows, queries.width, unit.job.scale, unit.job.tile_rows, copy);
  if (unit.job.spec.score != AttentionScore::additive) return;
  exp_twice(copy, unit.job.tile_rows * queries.width);
  const float* y = queries.score_vectors + unit.h * queries.width;
  for (int64_t c = 0; c < queries.width; ++c) {
    unit.scratch.y2[c] = 2.0F * y[c];
    unit.y_sum += y[c];
  }
}

void load_state(ForwardUnit& unit) {
  const int64_t width = unit.job.keys.value_width;
  std::fill_n(unit.scratch.l, unit.rows * kLanes, 0.0F);
  std::fill_n(unit.scratch.u, unit.rows * kLanes, 0.0F);
  std::fill_n(unit.scratch.o, unit.job.tile_rows * unit.ldo, 0.0F);
  for (int64_t i = 0; i < unit.rows; ++i) {
    const int64_t at = unit.statistic(i);
    unit.scratch.m[i] = unit.state.m.data<float>()[at];
    unit.scratch.l[i * kLanes] = unit.state.l.data<float>()[at];
    if (unit.job.spec.entropy) unit.scratch.u[i * kLanes] = unit.state.u.data<float>()[at];
    std::copy_n(unit.state_o(i), width, unit.scratch.o + i * unit.ldo);
  }
}

void store_state(const ForwardUnit& unit) {
  const TileTag d;
  for (int64_t i = 0; i < unit.rows; ++i) {
    const int64_t at = unit.statistic(i);
    unit.state.m.data<float>()[at] = unit.scratch.m[i];
    unit.state.l.data<float>()[at] = sum_lanes(hn::Load(d, unit.scratch.l + i * kLanes));
    if (unit.job.spec.entropy) {
      unit.state.u.data<float>()[at] = sum_lanes(hn::Load(d, unit.scratch.u + i * kLanes));
    }
    std::copy_n(unit.scratch.o + i * unit.ldo, unit.job.keys.value_width, unit.state_o(i));
  }
}

// Moves the row state from the old maximum to a higher one.
HWY_NOINLINE void rescale_row(const ForwardUnit& unit, int64_t i, float old_m, float new_m) {
  const TileTag d;
  if (old_m < kLowestScore) return;  // the row has seen nothing: its sums are 0
  const auto shift = splat(old_m - new_m);
  const auto f = tile_exp(shift);
  float* l = unit.scratch.l + i * kLanes;
  float* u = unit.scratch.u + i * kLanes;
  float* o = unit.scratch.o + i * unit.ldo;
  if (unit.job.spec.entropy) {
    hn::Store(hn::Mul(f, hn::MulAdd(hn::Load(d, l), shift, hn::Load(d, u))), d, u);
  }
  hn::Store(hn::Mul(f, hn::Load(d, l)), d, l);
  for (int64_t c = 0; c < unit.ldo; c += kLanes) hn::Store(hn::Mul(f, hn::Load(d, o + c)), d, o + c);
}

HWY_NOINLINE bool any_nan(const float* s, int64_t n) {
  return std::any_of(s, s + n, [](float x) { return std::isnan(x); });
}

// Raises the row's maximum to that of s (n columns). False when nothing in the row has been visible so far.
template <bool kMasked>
HWY_INLINE bool move_maximum(const ForwardUnit& unit, int64_t i, const float* s, int64_t n) {
  const TileTag d;
  auto largest = hn::Load(d, s);
  for (int64_t j = kLanes; j < n; j += kLanes) largest = hn::Max(largest, hn::Load(d, s + j));
  float& m = unit.scratch.m[i];
  const float limit = kMasked ? std::max(m, kLowestScore) : m;
  if (!hn::AllFalse(d, hn::Gt(largest, splat(limit)))) {
    const float new_m = max_lanes(largest);
    rescale_row(unit, i, m, new_m);
    m = new_m;
  }
  if (!kMasked || m > kLowestScore) return true;
  // Comparisons with NaN are false, so a row of NaN looks as if it had seen nothing; it must not become 0.
  if (any_nan(s, n)) m = std::numeric_limits<float>::quiet_NaN();
  return std::isnan(m);
}

// Scores to weights in place.
template <bool kMasked, bool kEntropy, bool kDropout>
HWY_INLINE void softmax_row(const ForwardUnit& unit, int64_t i, float* s, int64_t n, const float* weights) {
  const TileTag d;
  if (!move_maximum<kMasked>(unit, i, s, n)) {
    std::fill_n(s, n, 0.0F);
    return;
  }
  const auto m = splat(unit.scratch.m[i]);
  auto l = hn::Load(d, unit.scratch.l + i * kLanes);
  auto u = hn::Load(d, unit.scratch.u + i * kLanes);
  for (int64_t j = 0; j < n; j += kLanes) {
    const auto x = hn::Sub(hn::Load(d, s + j), m);
    auto p = tile_exp(x);
    l = hn::Add(l, p);
    if constexpr (kEntropy) u = hn::MulAdd(p, x, u);
    if constexpr (kDropout) p = hn::Mul(p, hn::Load(d, weights + j));
    hn::Store(p, d, s + j);
  }
  hn::Store(l, d, unit.scratch.l + i * kLanes);
  if constexpr (kEntropy) hn::Store(u, d, unit.scratch.u + i * kLanes);
}

// Applies the policies of the general path to one row, then its softmax step.
template <bool kMasked, bool kEntropy, bool kDropout>
HWY_INLINE void policy_row(const ForwardUnit& unit, const TileColumns& columns, int64_t tile, int64_t i, float* s) {
  const TileJob& job = unit.job;
  const int64_t n = columns.last - columns.first;
  const TileRow row{job.queries.positions[unit.token(i)],
                    job.rule.documents ? job.queries.documents[unit.token(i)] : 0,
                    job.tile_index.positions(unit.b, tile) + columns.first,
                    job.tile_index.documents(unit.b, tile) + columns.first,
                    n,
                    job.keys_of(tile) - columns.first};
  if (!job.spec.alibi_slopes.empty()) alibi_row(row, job.spec.alibi_slopes[static_cast<size_t>(unit.h)], s);
  if constexpr (kMasked) mask_row(row, job.rule, s);
  if constexpr (kDropout) {
    dropout_row(row, dropout_of(job, unit.b, unit.h, tile, columns.first), unit.scratch.words, unit.scratch.weights);
  }
  softmax_row<kMasked, kEntropy, kDropout>(unit, i, s, n, unit.scratch.weights);
}

template <bool kMasked, bool kEntropy, bool kDropout>
HWY_NOINLINE void softmax_tile(const ForwardUnit& unit, const TileColumns& columns, int64_t tile) {
  float* s = unit.scratch.s + columns.first;
  const bool general = kMasked || kDropout || !unit.job.spec.alibi_slopes.empty();
  for (int64_t i = 0; i < unit.rows; ++i, s += unit.job.tile_keys) {
    if (general) {
      policy_row<kMasked, kEntropy, kDropout>(unit, columns, tile, i, s);
    } else {
      softmax_row<false, kEntropy, false>(unit, i, s, columns.last - columns.first, nullptr);
    }
  }
}

template <bool kMasked>
HWY_INLINE void softmax_by_statistics(const ForwardUnit& unit, const TileColumns& columns, int64_t tile) {
  const bool dropout = unit.job.spec.dropout > 0.0;
  if (unit.job.spec.entropy) {
    dropout ? softmax_tile<kMasked, true, true>(unit, columns, tile)
            : softmax_tile<kMasked, true, false>(unit, columns, tile);
  } else {
    dropout ? softmax_tile<kMasked, false, true>(unit, columns, tile)
            : softmax_tile<kMasked, false, false>(unit, columns, tile);
  }
}

void forward_tile(const ForwardUnit& unit, const TileColumns& columns, int64_t tile, const float* keys,
                  const float* values) {
  const TileJob& job = unit.job;
  score_tile(job, unit.rows, columns, unit.scratch.q, keys, unit.scratch.y2, unit.y_sum, unit.scratch.s);
  columns.partial ? softmax_by_statistics<true>(unit, columns, tile)
                  : softmax_by_statistics<false>(unit, columns, tile);
  const int64_t count = std::min(columns.last, job.keys_of(tile)) - columns.first;
  product<false, true>(unit.rows, count, unit.scratch.s + columns.first, job.tile_keys, values, job.tile_keys,
                       columns.first, vectors_for(job.keys.value_width), unit.scratch.o, unit.ldo);
}

void ForwardPack(const TileJob& job, int64_t b, int64_t kh, int64_t tile, float* unit) {
  const KeyView& keys = job.keys;
  const ForwardPanels panels(job);
  const int64_t token = b * keys.tokens + tile * job.tile_keys;
  float* packed = panels.keys(unit, tile);
  pack_transposed(keys.k + token * keys.k_stride + kh * keys.width, keys.k_stride, job.keys_of(tile), keys.width,
                  job.tile_keys, packed);
  if (job.spec.score == AttentionScore::additive) exp_twice(packed, panels.key_tile);
  pack_rows(keys.v + token * keys.v_stride + kh * keys.value_width, keys.v_stride, job.keys_of(tile), keys.value_width,
            1.0F, job.tile_keys, panels.values(unit, tile));
}

void ForwardRows(const TileJob& job, AttentionState& state, int64_t b, int64_t h, int64_t q_block, float* panel,
                 float* scratch) {
  ScratchCarver carver(scratch);
  ForwardUnit unit{job,
                   state,
                   b,
                   h,
                   q_block * job.tile_rows,
                   job.rows_of(q_block),
                   ForwardScratch(job, carver),
                   vectors_for(job.keys.value_width) * kLanes};
  const ForwardPanels panels(job);
  int64_t tile = job.next_tile(b, q_block, 0);
  if (tile == job.key_tiles) return;
  load_queries(unit);
  load_state(unit);
  for (; tile < job.key_tiles; tile = job.next_tile(b, q_block, tile + 1)) {
    const TileColumns columns = job.columns(b, q_block, tile);
    forward_tile(unit, columns, tile, panels.keys(panel, tile), panels.values(panel, tile));
    job.tile_done(columns);
  }
  store_state(unit);
}

int64_t ForwardScratchFloats(const TileJob& job) {
  ScratchCarver carver(nullptr);
  ForwardScratch(job, carver);
  return carver.used();
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {

HWY_EXPORT(ForwardPack);
HWY_EXPORT(ForwardRows);
HWY_EXPORT(ForwardScratchFloats);

int64_t forward_scratch_floats(const TileJob& job) { return HWY_DYNAMIC_DISPATCH(ForwardScratchFloats)(job); }

void forward_pack(const TileJob& job, int64_t b, int64_t kh, int64_t tile, float* unit) {
  HWY_DYNAMIC_DISPATCH(ForwardPack)(job, b, kh, tile, unit);
}

void forward_rows(const TileJob& job, AttentionState& state, int64_t b, int64_t h, int64_t q_block, float* unit,
                  float* scratch) {
  HWY_DYNAMIC_DISPATCH(ForwardRows)(job, state, b, h, q_block, unit, scratch);
}

}  // namespace farsight
#endif  // HWY_ONCE
