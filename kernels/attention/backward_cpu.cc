// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/backward_cpu.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/backward_cpu.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/attention/additive-inl.h"
#include "kernels/attention/policies-inl.h"
#include "kernels/attention/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// One thread's buffers: first what belongs to the key tile, then what is filled anew for each block of queries.
struct BackwardScratch {
  BackwardScratch(const TileJob& job, ScratchCarver& carver) {
    const int64_t keys = job.tile_keys, rows = job.tile_rows;
    const int64_t width = padded_width(job.queries.width), value_width = padded_width(job.keys.value_width);
    const bool additive = job.spec.score == AttentionScore::additive;
    key_columns = carver.take(keys * width);
    key_rows = carver.take(keys * width);
    value_columns = carver.take(keys * value_width);
    dk = carver.take(keys * width);
    dv = carver.take(keys * value_width);
    q = carver.take(rows * width);
    q_pieces = carver.take(rows * width);
    dout = carver.take(rows * value_width);
    dout_pieces = carver.take(rows * value_width);
    s = carver.take(rows * keys);
    ds = carver.take(rows * keys);
    dq = carver.take(rows * width);
    db = carver.take(additive ? keys * width : 0);
    y2 = carver.take(width);
    weights = carver.take(keys);
    words = reinterpret_cast<uint32_t*>(carver.take(4 * keys));
  }
  float *key_columns, *key_rows, *value_columns, *dk, *dv;
  float *q, *q_pieces, *dout, *dout_pieces, *s, *ds, *dq, *db, *y2, *weights;
  uint32_t* words;
};

struct BackwardUnit {  // one (sample, key head, key tile) and the query head and block at hand
  const TileJob& job;
  const SavedView& saved;
  const GradientView& gradients;
  int64_t b, kh, tile;
  BackwardScratch scratch;
  int64_t ldk, ldv;  // floats of a row of width D / Dv
  int64_t h = 0, first_row = 0, rows = 0;
  float y_sum = 0.0F;

  bool additive() const { return job.spec.score == AttentionScore::additive; }
  int64_t statistic(int64_t row) const { return (b * job.queries.heads + h) * job.queries.tokens + first_row + row; }
  int64_t query_token(int64_t row) const { return b * job.queries.tokens + first_row + row; }
  int64_t key_token() const { return b * job.keys.tokens + tile * job.tile_keys; }
};

void load_keys(BackwardUnit& unit) {
  const KeyView& keys = unit.job.keys;
  const BackwardScratch& to = unit.scratch;
  const int64_t tile_keys = unit.job.tile_keys, count = unit.job.keys_of(unit.tile);
  const float* k = keys.k + unit.key_token() * keys.k_stride + unit.kh * keys.width;
  const float* v = keys.v + unit.key_token() * keys.v_stride + unit.kh * keys.value_width;
  pack_transposed(k, keys.k_stride, count, keys.width, tile_keys, to.key_columns);
  pack_transposed(v, keys.v_stride, count, keys.value_width, tile_keys, to.value_columns);
  std::fill_n(to.dk, tile_keys * unit.ldk, 0.0F);
  std::fill_n(to.dv, tile_keys * unit.ldv, 0.0F);
  if (unit.additive()) {
    exp_twice(to.key_columns, tile_keys * keys.width);
    copy_padded_rows(k, keys.k_stride, count, keys.width, unit.ldk, tile_keys, to.key_rows);
    exp_twice(to.key_rows, tile_keys * unit.ldk);
  } else {
    pack_rows(k, keys.k_stride, count, keys.width, unit.job.scale, tile_keys, to.key_rows);
  }
}

void load_score_vector(BackwardUnit& unit) {
  const int64_t width = unit.job.queries.width;
  const float* y = unit.job.queries.score_vectors + unit.h * width;
  unit.y_sum = 0.0F;
  for (int64_t c = 0; c < width; ++c) {
    unit.scratch.y2[c] = 2.0F * y[c];
    unit.y_sum += y[c];
  }
  std::fill_n(unit.scratch.db, unit.job.tile_keys * unit.ldk, 0.0F);
}

void load_queries(BackwardUnit& unit, int64_t q_block) {
  const TileJob& job = unit.job;
  const QueryView& queries = job.queries;
  const BackwardScratch& to = unit.scratch;
  unit.first_row = q_block * job.tile_rows;
  unit.rows = job.rows_of(q_block);
  const float* q = queries.q + unit.query_token(0) * queries.row_stride + unit.h * queries.width;
  const float* dout = unit.saved.dout + unit.query_token(0) * unit.saved.dout_stride + unit.h * job.keys.value_width;
  copy_rows(q, queries.row_stride, unit.rows, queries.width, job.scale, job.tile_rows, to.q);
  copy_rows(dout, unit.saved.dout_stride, unit.rows, job.keys.value_width, 1.0F, job.tile_rows, to.dout);
  pack_rows(dout, unit.saved.dout_stride, unit.rows, job.keys.value_width, 1.0F, job.tile_rows, to.dout_pieces);
  if (unit.additive()) {
    exp_twice(to.q, job.tile_rows * queries.width);
    copy_padded_rows(q, queries.row_stride, unit.rows, queries.width, unit.ldk, job.tile_rows, to.q_pieces);
    exp_twice(to.q_pieces, job.tile_rows * unit.ldk);
  } else {
    pack_rows(q, queries.row_stride, unit.rows, queries.width, job.scale, job.tile_rows, to.q_pieces);
  }
}

struct RowTerms {
  float lse, term, grad_entropy;
};

RowTerms row_terms(const BackwardUnit& unit, int64_t row) {
  const int64_t at = unit.statistic(row);
  const float lse = unit.saved.lse[at];
  if (lse == -std::numeric_limits<float>::infinity()) return {3e38F, 0.0F, 0.0F};  // saw nothing: every weight is 0
  return {lse, unit.saved.row_term[at], unit.saved.grad_entropy != nullptr ? unit.saved.grad_entropy[at] : 0.0F};
}

// s becomes the multiplied weights p w, ds (which holds dout.v) becomes the gradient of the scores.
template <bool kMasked, bool kEntropy, bool kDropout>
HWY_INLINE void gradient_row(const RowTerms& terms, float* s, float* ds, int64_t n, const float* weights) {
  const TileTag d;
  const auto lse = splat(terms.lse), term = splat(terms.term), gh = splat(terms.grad_entropy);
  for (int64_t j = 0; j < n; j += kLanes) {
    const auto score = hn::Load(d, s + j);
    auto x = hn::Sub(score, lse);
    const auto p = tile_exp(x);
    auto dp = hn::Load(d, ds + j);
    if constexpr (kDropout) {
      const auto w = hn::Load(d, weights + j);
      dp = hn::Mul(dp, w);
      hn::Store(hn::Mul(p, w), d, s + j);
    } else {
      hn::Store(p, d, s + j);
    }
    auto inner = hn::Sub(dp, term);
    if constexpr (kEntropy) {
      if constexpr (kMasked) x = hn::IfThenZeroElse(hn::Lt(score, splat(kLowestScore)), x);
      inner = hn::NegMulAdd(gh, x, inner);
    }
    hn::Store(hn::Mul(p, inner), d, ds + j);
  }
}

template <bool kMasked, bool kEntropy, bool kDropout>
HWY_INLINE void policy_row(const BackwardUnit& unit, const TileColumns& columns, int64_t i, float* s) {
  const TileJob& job = unit.job;
  const TileRow row{job.queries.positions[unit.query_token(i)],
                    job.rule.documents ? job.queries.documents[unit.query_token(i)] : 0,
                    job.tile_index.positions(unit.b, unit.tile) + columns.first,
                    job.tile_index.documents(unit.b, unit.tile) + columns.first,
                    columns.last - columns.first,
                    job.keys_of(unit.tile) - columns.first};
  if (!job.spec.alibi_slopes.empty()) alibi_row(row, job.spec.alibi_slopes[static_cast<size_t>(unit.h)], s);
  if constexpr (kMasked) mask_row(row, job.rule, s);
  if constexpr (kDropout) {
    dropout_row(row, dropout_of(job, unit.b, unit.h, unit.tile, columns.first), unit.scratch.words,
                unit.scratch.weights);
  }
}

template <bool kMasked, bool kEntropy, bool kDropout>
HWY_NOINLINE void gradient_tile(const BackwardUnit& unit, const TileColumns& columns) {
  const bool general = kMasked || kDropout || !unit.job.spec.alibi_slopes.empty();
  const int64_t n = columns.last - columns.first;
  for (int64_t i = 0; i < unit.rows; ++i) {
    float* s = unit.scratch.s + i * unit.job.tile_keys + columns.first;
    float* ds = unit.scratch.ds + i * unit.job.tile_keys + columns.first;
    if (general) policy_row<kMasked, kEntropy, kDropout>(unit, columns, i, s);
    gradient_row<kMasked, kEntropy, kDropout>(row_terms(unit, i), s, ds, n, unit.scratch.weights);
  }
}

template <bool kMasked>
HWY_INLINE void gradient_by_statistics(const BackwardUnit& unit, const TileColumns& columns) {
  const bool dropout = unit.job.spec.dropout > 0.0;
  if (unit.saved.grad_entropy != nullptr) {
    dropout ? gradient_tile<kMasked, true, true>(unit, columns) : gradient_tile<kMasked, true, false>(unit, columns);
  } else {
    dropout ? gradient_tile<kMasked, false, true>(unit, columns) : gradient_tile<kMasked, false, false>(unit, columns);
  }
}

void query_and_key_gradients(const BackwardUnit& unit, const TileColumns& columns, float* score_vector_sum) {
  const TileJob& job = unit.job;
  const BackwardScratch& at = unit.scratch;
  const int64_t count = std::min(columns.last, job.keys_of(unit.tile)) - columns.first;
  if (unit.additive()) {
    const int64_t padded = round_up(unit.rows, kAdditiveRows);
    std::fill_n(at.ds + unit.rows * job.tile_keys, (padded - unit.rows) * job.tile_keys, 0.0F);
    const TileColumns keys{columns.first, columns.first + count, columns.partial};
    additive_backward(unit.rows, keys, unit.ldk, at.q_pieces, at.key_rows, at.ds, job.tile_keys, at.dq, at.db,
                      score_vector_sum);
    return;
  }
  const int64_t vectors = unit.ldk / kLanes;
  product<true, true>(count, unit.rows, at.ds + columns.first, job.tile_keys, at.q_pieces, job.tile_rows, 0, vectors,
                      at.dk + columns.first * unit.ldk, unit.ldk);
  product<false, false>(unit.rows, count, at.ds + columns.first, job.tile_keys, at.key_rows, job.tile_keys,
                        columns.first, vectors, at.dq, unit.ldk);
}

void backward_tile(const BackwardUnit& unit, const TileColumns& columns, float* score_vector_sum) {
  const TileJob& job = unit.job;
  const BackwardScratch& at = unit.scratch;
  const int64_t value_width = job.keys.value_width;
  score_tile(job, unit.rows, columns, at.q, at.key_columns, at.y2, unit.y_sum, at.s);
  for (int64_t c = columns.first; c < columns.last; c += kScorePiece * kLanes) {
    score_product(unit.rows, value_width, at.dout, at.value_columns + c * value_width, at.ds + c, job.tile_keys);
  }
  columns.partial ? gradient_by_statistics<true>(unit, columns) : gradient_by_statistics<false>(unit, columns);
  product<true, true>(columns.last - columns.first, unit.rows, at.s + columns.first, job.tile_keys, at.dout_pieces,
                      job.tile_rows, 0, unit.ldv / kLanes, at.dv + columns.first * unit.ldv, unit.ldv);
  query_and_key_gradients(unit, columns, score_vector_sum);
}

// Additive: the factor 4 y_c that its tile gradients still lack.
void add_query_gradients(const BackwardUnit& unit) {
  const int64_t width = unit.job.queries.width;
  for (int64_t i = 0; i < unit.rows; ++i) {
    float* dq = unit.gradients.dq + unit.query_token(i) * unit.gradients.dq_stride + unit.h * width;
    const float* tile = unit.scratch.dq + i * unit.ldk;
    if (unit.additive()) {
      for (int64_t c = 0; c < width; ++c) dq[c] += 2.0F * unit.scratch.y2[c] * tile[c];
    } else {
      for (int64_t c = 0; c < width; ++c) dq[c] += tile[c];
    }
  }
}

void collect_additive_keys(const BackwardUnit& unit) {
  const int64_t width = unit.job.queries.width;
  for (int64_t j = 0; j < unit.job.keys_of(unit.tile); ++j) {
    float* dk = unit.scratch.dk + j * unit.ldk;
    const float* db = unit.scratch.db + j * unit.ldk;
    for (int64_t c = 0; c < width; ++c) dk[c] += 2.0F * unit.scratch.y2[c] * db[c];
  }
}

void add_key_gradients(const BackwardUnit& unit) {
  const KeyView& keys = unit.job.keys;
  const GradientView& g = unit.gradients;
  for (int64_t j = 0; j < unit.job.keys_of(unit.tile); ++j) {
    float* dk = g.dk + (unit.key_token() + j) * g.dk_stride + unit.kh * keys.width;
    float* dv = g.dv + (unit.key_token() + j) * g.dv_stride + unit.kh * keys.value_width;
    for (int64_t c = 0; c < keys.width; ++c) dk[c] += unit.scratch.dk[j * unit.ldk + c];
    for (int64_t c = 0; c < keys.value_width; ++c) dv[c] += unit.scratch.dv[j * unit.ldv + c];
  }
}

void backward_head(BackwardUnit& unit, const TurnOrder& turns, const RowBounds& keys, float* score_vector_sum) {
  const TileJob& job = unit.job;
  const auto next = [&](int64_t from) { return job.query_bounds.next_for_keys(job.rule, unit.b, keys, from); };
  for (int64_t block = next(0); block < job.query_blocks; block = next(block + 1)) {
    const TileColumns columns = job.columns(unit.b, block, unit.tile);
    if (columns.last == 0) continue;
    load_queries(unit, block);
    backward_tile(unit, columns, score_vector_sum);
    turns.wait(unit.b, unit.h, block, unit.tile);
    add_query_gradients(unit);
    turns.pass_on(unit.b, unit.h, block, unit.tile);
    job.tile_done(columns);
  }
}

void BackwardTileColumn(const TileJob& job, const SavedView& saved, const GradientView& gradients,
                        const TurnOrder& turns, int64_t b, int64_t kh, int64_t tile, float* score_vector_sums,
                        float* scratch) {
  ScratchCarver carver(scratch);
  BackwardUnit unit{job,
                    saved,
                    gradients,
                    b,
                    kh,
                    tile,
                    BackwardScratch(job, carver),
                    vectors_for(job.queries.width) * kLanes,
                    vectors_for(job.keys.value_width) * kLanes};
  load_keys(unit);
  const RowBounds bounds = job.tile_bounds(b, tile);
  for (int64_t g = 0; g < job.group(); ++g) {
    unit.h = kh * job.group() + g;
    float* sum = unit.additive() ? score_vector_sums + g * padded_width(job.queries.width) : nullptr;
    if (unit.additive()) {
      load_score_vector(unit);
      std::fill_n(sum, padded_width(job.queries.width), 0.0F);
    }
    backward_head(unit, turns, bounds, sum);
    if (unit.additive()) collect_additive_keys(unit);
  }
  add_key_gradients(unit);
}

int64_t BackwardScratchFloats(const TileJob& job) {
  ScratchCarver carver(nullptr);
  BackwardScratch(job, carver);
  return carver.used();
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {

HWY_EXPORT(BackwardTileColumn);
HWY_EXPORT(BackwardScratchFloats);

int64_t backward_scratch_floats(const TileJob& job) { return HWY_DYNAMIC_DISPATCH(BackwardScratchFloats)(job); }

void backward_tile_column(const TileJob& job, const SavedView& saved, const GradientView& gradients,
                          const TurnOrder& turns, int64_t b, int64_t kh, int64_t tile, float* score_vector_sums,
                          float* scratch) {
  HWY_DYNAMIC_DISPATCH(BackwardTileColumn)
  (job, saved, gradients, turns, b, kh, tile, score_vector_sums, scratch);
}

}  // namespace farsight
#endif  // HWY_ONCE
