// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/tile_job.h"

#include <algorithm>

#include "kernels/attention/check.h"
#include "kernels/random.h"

namespace farsight {
namespace {

struct CallerHooks {
  ProgressHook hook = nullptr;
  void* context = nullptr;
  AttentionTileCount* count = nullptr;
};

CallerHooks& caller_hooks() {
  thread_local CallerHooks hooks;
  return hooks;
}

}  // namespace

namespace {

template <class T>
T* pointer(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

}  // namespace

QueryView::QueryView(const AttentionSpec& spec, const AttentionQueries& from)
    : q(from.q.data<float>()),
      row_stride(from.q.row_stride()),
      batch(from.batch),
      tokens(from.tokens),
      heads(from.heads),
      width(from.width),
      positions(from.positions.data<int32_t>()),
      documents(spec.documents ? from.documents.data<int32_t>() : nullptr),
      dropout_keys(spec.dropout > 0.0 ? reinterpret_cast<const uint64_t*>(from.dropout_keys.data<int64_t>()) : nullptr),
      score_vectors(spec.score == AttentionScore::additive ? from.score_vectors.data<float>() : nullptr),
      first_head(from.first_head) {}

KeyView::KeyView(const AttentionSpec& spec, const AttentionKeys& from)
    : k(from.k.data<float>()),
      v(from.v.data<float>()),
      k_stride(from.k.row_stride()),
      v_stride(from.v.row_stride()),
      tokens(from.tokens),
      heads(from.heads),
      width(from.width),
      value_width(from.value_width),
      positions(from.positions.data<int32_t>()),
      documents(spec.documents ? from.documents.data<int32_t>() : nullptr) {}

SavedView::SavedView(const AttentionRowSaved& from)
    : lse(from.lse.data<float>()),
      row_term(from.row_term.data<float>()),
      grad_entropy(pointer<float>(from.grad_entropy)),
      dout(from.dout.data<float>()),
      dout_stride(from.dout.row_stride()) {}

GradientView::GradientView(const AttentionGradients& from)
    : dq(from.dq.data<float>()),
      dq_stride(from.dq.row_stride()),
      dk(from.dk.data<float>()),
      dk_stride(from.dk.row_stride()),
      dv(from.dv.data<float>()),
      dv_stride(from.dv.row_stride()) {}

void set_attention_progress(ProgressHook hook, void* context) {
  caller_hooks().hook = hook;
  caller_hooks().context = context;
}

void set_attention_tile_count(AttentionTileCount* count) { caller_hooks().count = count; }

TileKeys::TileKeys(const AttentionSpec& spec, const KeyView& keys, int64_t batch, int64_t keys_per_tile)
    : tiles((keys.tokens + keys_per_tile - 1) / keys_per_tile),
      tile_keys(keys_per_tile),
      plane(batch * tiles * keys_per_tile),
      storage(Tensor::empty({4 * plane + batch * tiles}, DType::i32, MemoryTag::attention)),
      counts(storage.data<int32_t>() + 4 * plane) {
  const int64_t padded = tiles * tile_keys;
  int32_t* base = storage.data<int32_t>();
  for (int64_t b = 0; b < batch; ++b) {
    const auto copy = [&](const int32_t* from, int32_t* to) {
      if (from != nullptr) std::copy_n(from + b * keys.tokens, keys.tokens, to);
      std::fill_n(from != nullptr ? to + keys.tokens : to, from != nullptr ? padded - keys.tokens : padded, 0);
    };
    copy(keys.positions, base + b * padded);
    copy(keys.documents, base + plane + b * padded);
    for (int64_t tile = 0; spec.dropout > 0.0 && tile < tiles; ++tile) {
      const int64_t offset = b * padded + tile * tile_keys;
      fill_quads(base + offset, base + 2 * plane + offset, base + 3 * plane + offset, counts[b * tiles + tile]);
    }
  }
}

void TileKeys::fill_quads(const int32_t* positions, int32_t* quads, int32_t* index, int32_t& count) const {
  count = 0;
  for (int64_t j = 0; j < tile_keys; ++j) {
    const int32_t quad = positions[j] >> 2;
    if (count == 0 || quads[count - 1] != quad) quads[count++] = quad;
    index[j] = 4 * (count - 1) + (positions[j] & 3);
  }
}

TileJob::TileJob(const AttentionSpec& s, const AttentionQueries& q, const AttentionKeys& k, int64_t rows,
                 int64_t keys_per_tile)
    : spec(s),
      queries(s, q),
      keys(s, k),
      tile_rows(rows),
      tile_keys(keys_per_tile),
      query_blocks((q.tokens + rows - 1) / rows),
      key_tiles((k.tokens + keys_per_tile - 1) / keys_per_tile),
      rule(s),
      scale(s.score == AttentionScore::additive ? 1.0F : score_scale(s, q.width)),
      keep_threshold(dropout_threshold(s.dropout)),
      keep_factor(static_cast<float>(1.0 / (1.0 - s.dropout))),
      query_bounds(q.batch, q.tokens, rows, queries.positions, queries.documents),
      key_bounds(q.batch, k.tokens, kSubKeys, keys.positions, keys.documents),
      tile_index(s, keys, q.batch, keys_per_tile),
      hook(caller_hooks().hook),
      hook_context(caller_hooks().context),
      count(caller_hooks().count),
      caller(std::this_thread::get_id()) {}

TileColumns TileJob::columns(int64_t b, int64_t q_block, int64_t tile) const {
  const int64_t subs = tile_keys / kSubKeys;
  const int64_t begin = tile * subs, end = std::min(begin + subs, key_bounds.blocks());
  const RowBounds& rows = query_bounds.at(b, q_block);
  TileColumns columns{tile_keys, 0, false};
  for (int64_t sub = begin; sub < end; ++sub) {
    const TileClass tile_class = classify(rule, rows, key_bounds.at(b, sub));
    if (tile_class != TileClass::full) columns.partial = true;
    if (tile_class == TileClass::empty) continue;
    columns.first = std::min(columns.first, (sub - begin) * kSubKeys);
    columns.last = (sub - begin + 1) * kSubKeys;
  }
  if (columns.last == 0) return {};
  columns.partial = columns.partial || columns.last > keys_of(tile);
  return columns;
}

RowBounds TileJob::tile_bounds(int64_t b, int64_t tile) const {
  const int64_t subs = tile_keys / kSubKeys;
  RowBounds bounds;
  for (int64_t sub = tile * subs; sub < std::min((tile + 1) * subs, key_bounds.blocks()); ++sub) {
    bounds.include(key_bounds.at(b, sub));
  }
  return bounds;
}

int64_t TileJob::next_tile(int64_t b, int64_t q_block, int64_t from) const {
  const int64_t subs = tile_keys / kSubKeys;
  const int64_t sub = key_bounds.next_for_queries(rule, b, query_bounds.at(b, q_block), from * subs);
  return sub == key_bounds.blocks() ? key_tiles : sub / subs;
}

void TileJob::tile_done(const TileColumns& columns) const {
  if (count != nullptr) (columns.partial ? count->partial : count->full).fetch_add(1, std::memory_order_relaxed);
  if (hook != nullptr && std::this_thread::get_id() == caller) hook(hook_context);
}

}  // namespace farsight
