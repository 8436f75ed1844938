// SPDX-License-Identifier: Apache-2.0
// Which positions of a sequence each of the c owners of the context axis holds. Sizes may differ between owners;
// nothing has to divide anything, because masks come from positions.
//   contiguous  owner i: [i*T/c, (i+1)*T/c)
//   zigzag      owner i: chunks i and 2c-1-i of 2c (balances one long causal document)
//   striped     owner i: blocks of `stripe` positions with floor(pos/stripe) mod c = i (balances packed documents)
// Every owner may be cut further: with `pieces` = u the order deals positions to c / u members (the ring), and each
// member's ascending positions are cut into u runs whose lengths differ by at most one; owner = member * u + piece.
// An owner's positions are always ascending.
#pragma once

#include <compare>
#include <cstdint>
#include <string_view>
#include <vector>

namespace farsight {

enum class SequenceOrder : uint8_t { automatic, contiguous, zigzag, striped };
const char* to_string(SequenceOrder order);
// Throws Error{config} listing the valid names.
SequenceOrder parse_sequence_order(std::string_view text);

// What `automatic` means, the same on all ranks: contiguous for one owner and for a window within T/c (only neighbours
// exchange anything useful), striped for packed documents, zigzag otherwise (one long row).
SequenceOrder choose_order(SequenceOrder asked, bool documents, bool causal, int64_t window_left, int64_t tokens,
                           int64_t owners);

struct SequenceRange {
  int64_t begin = 0, end = 0;
  bool operator==(const SequenceRange&) const = default;
};

class SequenceLayout {
 public:
  SequenceLayout() = default;
  // Throws Error{internal} unless order is concrete, tokens >= 0, owners >= 1, stripe >= 1 and pieces divides owners.
  SequenceLayout(SequenceOrder order, int64_t tokens, int64_t owners, int64_t stripe = 1, int64_t pieces = 1);

  SequenceOrder order() const { return order_; }
  int64_t tokens() const { return tokens_; }
  int64_t owners() const { return ring_ * pieces_; }
  int64_t ring() const { return ring_; }  // members that the order deals to
  int64_t pieces() const { return pieces_; }
  int64_t stripe() const { return stripe_; }
  // The same positions by member, each member's pieces joined.
  SequenceLayout member_layout() const { return {order_, tokens_, ring_, stripe_}; }

  int64_t count(int64_t owner) const;  // positions of this owner
  int64_t max_count() const;           // of any owner: size of exchange buffers
  // Maximal runs of consecutive positions, ascending; no empty ranges.
  std::vector<SequenceRange> ranges(int64_t owner) const;
  std::vector<int32_t> positions(int64_t owner) const;  // ascending, count(owner) of them
  int64_t owner_of(int64_t position) const;
  auto operator<=>(const SequenceLayout&) const = default;

 private:
  int64_t member_count(int64_t member) const;
  int64_t cut(int64_t member, int64_t piece) const;  // first of the piece's positions, counted within the member
  int64_t member_of(int64_t position) const;
  int64_t index_in_member(int64_t position, int64_t member) const;
  // The member's stretches of positions from its `first` th position on, ascending; the first may begin before it.
  template <typename Visit>
  void visit_member(int64_t member, int64_t first, Visit visit) const;

  SequenceOrder order_ = SequenceOrder::contiguous;
  int64_t tokens_ = 0, ring_ = 1, stripe_ = 1, pieces_ = 1;
};

// Attention pairs (query, key) that each owner's queries see under causal masking with a left window and documents
// (document id per position, empty = one document): the work that must balance. O(T).
std::vector<int64_t> visible_pairs(const SequenceLayout& layout, const std::vector<int32_t>& documents,
                                   int64_t window_left);

}  // namespace farsight
