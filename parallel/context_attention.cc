// SPDX-License-Identifier: Apache-2.0
#include "parallel/context_attention.h"

#include <utility>
#include <vector>

#include "kernels/error.h"
#include "parallel/gather_attention.h"
#include "parallel/head_exchange.h"
#include "parallel/head_partition.h"

namespace farsight {

namespace {

// Only two_d needs the pieces of the layout: the other schemes take any layout over the whole group.
void check(const ContextGroups& g, ContextScheme scheme, const SequenceLayout& layout) {
  const bool grid = g.context.size() == g.ring.size() * g.uly.size() && g.self.size() == 1 &&
                    g.context.rank() == g.ring.rank() * g.uly.size() + g.uly.rank();
  const bool pieces = layout.pieces() == g.uly.size() || scheme != ContextScheme::two_d;
  if (grid && pieces && layout.owners() == g.context.size()) return;
  fail(
      ErrorKind::internal,
      "context_attention ({}): rank {} of {} is rank {} of {} in the ring and {} of {} in ulysses; the layout deals to "
      "{} members of {} pieces",
      to_string(scheme), g.context.rank(), g.context.size(), g.ring.rank(), g.ring.size(), g.uly.rank(), g.uly.size(),
      layout.ring(), layout.pieces());
}

// Tokens of every rank of the whole context group in position order.
std::vector<std::vector<SequenceRange>> places_of_owners(const SequenceLayout& layout) {
  std::vector<std::vector<SequenceRange>> places;
  for (int64_t owner = 0; owner < layout.owners(); ++owner) places.push_back(layout.ranges(owner));
  return places;
}

// Tokens of the ulysses ranks of one ring member: its pieces one after another.
std::vector<std::vector<SequenceRange>> places_of_pieces(const SequenceLayout& layout, int64_t member) {
  std::vector<std::vector<SequenceRange>> places;
  int64_t begin = 0;
  for (int64_t piece = 0; piece < layout.pieces(); ++piece) {
    const int64_t count = layout.count(member * layout.pieces() + piece);
    places.push_back({{begin, begin + count}});
    begin += count;
  }
  return places;
}

AttentionSpec spec_of(const AttentionSpec& spec, const HeadShare& share) {
  AttentionSpec own = spec;
  if (!spec.alibi_slopes.empty()) {
    const auto begin = spec.alibi_slopes.begin() + share.first_head;
    own.alibi_slopes.assign(begin, begin + share.heads);
  }
  return own;
}

RingOptions options_of(const RingOptions& options, const HeadShare& share) {
  RingOptions own = options;
  own.heads = share.heads;
  own.kv_heads = static_cast<int64_t>(share.key_heads.size());
  own.first_head += share.first_head;
  own.first_vector += share.first_head;
  return own;
}

struct Inputs {
  const AttentionSpec& spec;
  const Var &q, &k, &v;
  const SequenceBatch& batch;
  const RingOptions& options;
};

// Heads are exchanged within `inner`; its ranks then act as one member of `layout` in the ring `outer`.
ContextAttentionResult exchanged(Tape& tape, Communicator& inner, Communicator& outer, const SequenceLayout& layout,
                                 std::vector<std::vector<SequenceRange>> places, const Inputs& in) {
  SequenceBatch batch = in.batch;
  batch.layout = layout;
  if (inner.size() == 1) {
    const auto direct = ring_attention(tape, outer, in.spec, in.q, in.k, in.v, batch, in.options);
    return {direct.out, direct.entropy};
  }
  const HeadExchangePlan plan{batch.batch, std::move(places),
                              partition_heads(in.options.heads, in.options.kv_heads, inner.size())};
  const HeadShare& share = plan.shares[static_cast<size_t>(inner.rank())];
  const HeadRows rows = scatter_heads(tape, inner, plan, in.q, in.k, in.v);
  const auto attended = ring_attention(tape, outer, spec_of(in.spec, share), rows.q, rows.k, rows.v, batch,
                                       options_of(in.options, share));
  return {gather_heads(tape, inner, plan, attended.out), attended.entropy};
}

}  // namespace

const char* to_string(ContextScheme scheme) {
  switch (scheme) {
    case ContextScheme::ring:
      return "ring";
    case ContextScheme::all_gather:
      return "allgather";
    case ContextScheme::ulysses:
      return "ulysses";
    case ContextScheme::two_d:
      return "2d";
  }
  return "?";
}

ContextAttentionResult context_attention(Tape& tape, const ContextGroups& groups, ContextScheme scheme,
                                         const AttentionSpec& spec, const Var& q, const Var& k, const Var& v,
                                         const SequenceBatch& batch, const ContextOptions& options) {
  const SequenceLayout& layout = batch.layout;
  check(groups, scheme, layout);
  const Inputs in{spec, q, k, v, batch, options};
  switch (scheme) {
    case ContextScheme::ring: {
      const auto r = ring_attention(tape, groups.context, spec, q, k, v, batch, options);
      return {r.out, r.entropy};
    }
    case ContextScheme::all_gather: {
      const auto r = gather_attention(tape, groups.context, spec, q, k, v, batch, options, options.gather_heads);
      return {r.out, r.entropy};
    }
    case ContextScheme::ulysses:
      return exchanged(tape, groups.context, groups.self, SequenceLayout(SequenceOrder::contiguous, layout.tokens(), 1),
                       places_of_owners(layout), in);
    case ContextScheme::two_d:
      return exchanged(tape, groups.uly, groups.ring, layout.member_layout(),
                       places_of_pieces(layout, groups.ring.rank()), in);
  }
  fail(ErrorKind::internal, "context_attention: unknown scheme");
}

}  // namespace farsight
