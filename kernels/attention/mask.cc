// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/mask.h"

#include <memory>

namespace farsight {
namespace {

constexpr int64_t kGroup = 32;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool is_empty(const MaskRule& rule, const RowBounds& q, const RowBounds& k) {
  const int64_t smallest = int64_t{q.position_min} - k.position_max;
  const int64_t largest = int64_t{q.position_max} - k.position_min;
  if (largest < rule.low || smallest > rule.high) return true;
  return rule.documents && (q.document_max < k.document_min || k.document_max < q.document_min);
}

}  // namespace

MaskRule::MaskRule(const AttentionSpec& spec)
    : low(spec.causal ? 0 : -spec.window_right), high(spec.window_left), documents(spec.documents) {}

void RowBounds::include(const RowBounds& other) {
  position_min = std::min(position_min, other.position_min);
  position_max = std::max(position_max, other.position_max);
  document_min = std::min(document_min, other.document_min);
  document_max = std::max(document_max, other.document_max);
}

TileClass classify(const MaskRule& rule, const RowBounds& q, const RowBounds& k) {
  if (is_empty(rule, q, k)) return TileClass::empty;
  const int64_t smallest = int64_t{q.position_min} - k.position_max;
  const int64_t largest = int64_t{q.position_max} - k.position_min;
  const bool one_document = q.document_min == q.document_max && k.document_min == k.document_max;
  const bool full = smallest >= rule.low && largest <= rule.high && (!rule.documents || one_document);
  return full ? TileClass::full : TileClass::partial;
}

BlockBounds::BlockBounds(int64_t batch, int64_t tokens, int64_t block, const int32_t* positions,
                         const int32_t* documents)
    : blocks_(ceil_div(tokens, block)), groups_(ceil_div(blocks_, kGroup)) {
  static_assert(sizeof(RowBounds) == 4 * sizeof(int32_t));
  const int64_t entries = batch * (blocks_ + groups_);
  storage_ = Tensor::empty({entries, 4}, DType::i32, MemoryTag::attention);
  fine_ = reinterpret_cast<RowBounds*>(storage_.raw());
  coarse_ = fine_ + batch * blocks_;
  std::uninitialized_fill_n(fine_, entries, RowBounds{});
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < tokens; ++t) {
      const int32_t p = positions[b * tokens + t];
      const int32_t d = documents != nullptr ? documents[b * tokens + t] : 0;
      fine_[b * blocks_ + t / block].include({p, p, d, d});
    }
    for (int64_t i = 0; i < blocks_; ++i) coarse_[b * groups_ + i / kGroup].include(fine_[b * blocks_ + i]);
  }
}

template <typename IsEmpty>
int64_t BlockBounds::next(int64_t b, int64_t from, IsEmpty is_empty) const {
  int64_t i = from;
  while (i < blocks_) {
    if (i % kGroup == 0 && is_empty(coarse_[b * groups_ + i / kGroup])) {
      i += kGroup;
    } else if (is_empty(fine_[b * blocks_ + i])) {
      ++i;
    } else {
      return i;
    }
  }
  return blocks_;
}

int64_t BlockBounds::next_for_queries(const MaskRule& rule, int64_t b, const RowBounds& queries, int64_t from) const {
  return next(b, from, [&](const RowBounds& keys) { return is_empty(rule, queries, keys); });
}

int64_t BlockBounds::next_for_keys(const MaskRule& rule, int64_t b, const RowBounds& keys, int64_t from) const {
  return next(b, from, [&](const RowBounds& queries) { return is_empty(rule, queries, keys); });
}

}  // namespace farsight
