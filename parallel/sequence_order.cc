// SPDX-License-Identifier: Apache-2.0
#include "parallel/sequence_order.h"

#include <algorithm>
#include <string>

#include "kernels/error.h"

namespace farsight {

namespace {

void append(std::vector<SequenceRange>& ranges, int64_t begin, int64_t end) {
  if (begin >= end) return;
  if (!ranges.empty() && ranges.back().end == begin) {
    ranges.back().end = end;
  } else {
    ranges.push_back({begin, end});
  }
}

}  // namespace

const char* to_string(SequenceOrder order) {
  switch (order) {
    case SequenceOrder::automatic:
      return "auto";
    case SequenceOrder::contiguous:
      return "contiguous";
    case SequenceOrder::zigzag:
      return "zigzag";
    case SequenceOrder::striped:
      return "striped";
  }
  return "?";
}

SequenceOrder parse_sequence_order(std::string_view text) {
  for (const auto order :
       {SequenceOrder::automatic, SequenceOrder::contiguous, SequenceOrder::zigzag, SequenceOrder::striped}) {
    if (text == to_string(order)) return order;
  }
  fail(ErrorKind::config, "sequence order '{}' is unknown; use auto, contiguous, zigzag or striped", text);
}

SequenceOrder choose_order(SequenceOrder asked, bool documents, bool causal, int64_t window_left, int64_t tokens,
                           int64_t owners) {
  if (asked != SequenceOrder::automatic) return asked;
  if (owners == 1 || !causal) return SequenceOrder::contiguous;  // without a causal mask every order balances
  if (window_left <= tokens / owners) return SequenceOrder::contiguous;
  return documents ? SequenceOrder::striped : SequenceOrder::zigzag;
}

SequenceLayout::SequenceLayout(SequenceOrder order, int64_t tokens, int64_t owners, int64_t stripe)
    : order_(order), tokens_(tokens), owners_(owners), stripe_(stripe) {
  if (order == SequenceOrder::automatic || tokens < 0 || owners < 1 || stripe < 1) {
    fail(ErrorKind::internal, "sequence layout: order {}, {} tokens, {} owners, stripe {}", to_string(order), tokens,
         owners, stripe);
  }
}

std::vector<SequenceRange> SequenceLayout::ranges(int64_t owner) const {
  std::vector<SequenceRange> result;
  const auto chunk = [this](int64_t i, int64_t chunks) { return tokens_ / chunks * i + tokens_ % chunks * i / chunks; };
  if (order_ == SequenceOrder::contiguous) {
    append(result, chunk(owner, owners_), chunk(owner + 1, owners_));
  } else if (order_ == SequenceOrder::zigzag) {
    const int64_t chunks = 2 * owners_;
    for (const int64_t i : {owner, chunks - 1 - owner}) append(result, chunk(i, chunks), chunk(i + 1, chunks));
  } else {
    for (int64_t begin = owner * stripe_; begin < tokens_; begin += owners_ * stripe_) {
      append(result, begin, std::min(begin + stripe_, tokens_));
    }
  }
  return result;
}

int64_t SequenceLayout::count(int64_t owner) const {
  if (order_ != SequenceOrder::striped) {
    int64_t n = 0;
    for (const auto& r : ranges(owner)) n += r.end - r.begin;
    return n;
  }
  const int64_t turn = owners_ * stripe_;
  return tokens_ / turn * stripe_ + std::clamp<int64_t>(tokens_ % turn - owner * stripe_, 0, stripe_);
}

int64_t SequenceLayout::max_count() const {
  int64_t most = 0;
  for (int64_t i = 0; i < owners_; ++i) most = std::max(most, count(i));
  return most;
}

std::vector<int32_t> SequenceLayout::positions(int64_t owner) const {
  std::vector<int32_t> result;
  result.reserve(static_cast<size_t>(count(owner)));
  for (const auto& r : ranges(owner)) {
    for (int64_t p = r.begin; p < r.end; ++p) result.push_back(static_cast<int32_t>(p));
  }
  return result;
}

int64_t SequenceLayout::owner_of(int64_t position) const {
  if (order_ == SequenceOrder::striped) return position / stripe_ % owners_;
  for (int64_t owner = 0; owner < owners_; ++owner) {
    for (const auto& r : ranges(owner)) {
      if (r.begin <= position && position < r.end) return owner;
    }
  }
  fail(ErrorKind::internal, "position {} of {} tokens", position, tokens_);
}

std::vector<int64_t> visible_pairs(const SequenceLayout& layout, const std::vector<int32_t>& documents,
                                   int64_t window_left) {
  std::vector<int64_t> pairs(static_cast<size_t>(layout.owners()), 0);
  std::vector<int64_t> seen(static_cast<size_t>(layout.tokens()));
  int64_t document_start = 0;
  for (int64_t p = 0; p < layout.tokens(); ++p) {
    const auto i = static_cast<size_t>(p);
    if (!documents.empty() && p > 0 && documents[i] != documents[i - 1]) document_start = p;
    seen[i] = std::min(p - document_start, window_left) + 1;
  }
  for (int64_t owner = 0; owner < layout.owners(); ++owner) {
    for (const int32_t p : layout.positions(owner)) pairs[static_cast<size_t>(owner)] += seen[static_cast<size_t>(p)];
  }
  return pairs;
}

}  // namespace farsight
