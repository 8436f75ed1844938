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

// Where share i of n positions cut into `shares` begins; sizes differ by at most one.
int64_t share(int64_t n, int64_t i, int64_t shares) { return n / shares * i + n % shares * i / shares; }

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

SequenceLayout::SequenceLayout(SequenceOrder order, int64_t tokens, int64_t owners, int64_t stripe, int64_t pieces)
    : order_(order), tokens_(tokens), ring_(owners), stripe_(stripe), pieces_(pieces) {
  if (order == SequenceOrder::automatic || tokens < 0 || owners < 1 || stripe < 1 || pieces < 1 ||
      owners % pieces != 0) {
    fail(ErrorKind::internal, "sequence layout: order {}, {} tokens, {} owners, stripe {}, {} pieces", to_string(order),
         tokens, owners, stripe, pieces);
  }
  ring_ = owners / pieces;
}

// visit(begin, end, index): positions [begin, end), of which `begin` is the member's index-th. It returns whether to go
// on.
template <typename Visit>
void SequenceLayout::visit_member(int64_t member, int64_t first, Visit visit) const {
  if (order_ == SequenceOrder::contiguous) {
    visit(share(tokens_, member, ring_), share(tokens_, member + 1, ring_), 0);
    return;
  }
  if (order_ == SequenceOrder::zigzag) {
    const int64_t chunks = 2 * ring_, mirror = chunks - 1 - member;
    const int64_t begin = share(tokens_, member, chunks), end = share(tokens_, member + 1, chunks);
    if (visit(begin, end, 0)) visit(share(tokens_, mirror, chunks), share(tokens_, mirror + 1, chunks), end - begin);
    return;
  }
  for (int64_t turn = first / stripe_;; ++turn) {
    const int64_t begin = (turn * ring_ + member) * stripe_;
    if (begin >= tokens_ || !visit(begin, std::min(begin + stripe_, tokens_), turn * stripe_)) return;
  }
}

int64_t SequenceLayout::member_count(int64_t member) const {
  if (order_ == SequenceOrder::striped) {
    const int64_t turn = ring_ * stripe_;
    return tokens_ / turn * stripe_ + std::clamp<int64_t>(tokens_ % turn - member * stripe_, 0, stripe_);
  }
  int64_t n = 0;
  visit_member(member, 0, [&n](int64_t begin, int64_t end, int64_t) {
    n += end - begin;
    return true;
  });
  return n;
}

int64_t SequenceLayout::cut(int64_t member, int64_t piece) const { return share(member_count(member), piece, pieces_); }

std::vector<SequenceRange> SequenceLayout::ranges(int64_t owner) const {
  const int64_t member = owner / pieces_;
  const int64_t first = cut(member, owner % pieces_), last = cut(member, owner % pieces_ + 1);
  std::vector<SequenceRange> result;
  visit_member(member, first, [&](int64_t begin, int64_t end, int64_t index) {
    append(result, begin + std::max<int64_t>(first - index, 0), std::min(end, begin + last - index));
    return index + end - begin < last;
  });
  return result;
}

int64_t SequenceLayout::count(int64_t owner) const {
  const int64_t member = owner / pieces_;
  return cut(member, owner % pieces_ + 1) - cut(member, owner % pieces_);
}

int64_t SequenceLayout::max_count() const {
  int64_t most = 0;
  for (int64_t i = 0; i < owners(); ++i) most = std::max(most, count(i));
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

int64_t SequenceLayout::member_of(int64_t position) const {
  if (order_ == SequenceOrder::striped) return position / stripe_ % ring_;
  const int64_t chunks = order_ == SequenceOrder::zigzag ? 2 * ring_ : ring_;
  int64_t chunk = 0;
  while (share(tokens_, chunk + 1, chunks) <= position) ++chunk;
  return std::min(chunk, 2 * ring_ - 1 - chunk);
}

int64_t SequenceLayout::index_in_member(int64_t position, int64_t member) const {
  if (order_ == SequenceOrder::striped) return position / (ring_ * stripe_) * stripe_ + position % stripe_;
  int64_t found = 0;
  visit_member(member, 0, [&found, position](int64_t begin, int64_t end, int64_t index) {
    found = index + position - begin;
    return position >= end;
  });
  return found;
}

int64_t SequenceLayout::owner_of(int64_t position) const {
  if (position < 0 || position >= tokens_) {
    fail(ErrorKind::internal, "position {} of {} tokens", position, tokens_);
  }
  const int64_t member = member_of(position);
  const int64_t index = index_in_member(position, member);
  int64_t piece = 0;
  while (cut(member, piece + 1) <= index) ++piece;
  return member * pieces_ + piece;
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
