// SPDX-License-Identifier: Apache-2.0
#include "tests/parallel/context_case.h"

#include <numeric>
#include <vector>

#include <fmt/core.h>

#include "parallel/head_partition.h"
#include "parallel/inproc_comm.h"

namespace farsight::testing {

namespace {

// Heads and rows whose statistics a rank has: those of its own rows, or of its own heads.
void describe_statistics(const ContextLayout& l, const SequenceLayout& layout, int64_t rank, int64_t kv_heads,
                         RankResult& r) {
  const bool whole = l.scheme == ContextScheme::ulysses;
  r.positions = layout.positions(rank);
  if (!whole && l.scheme != ContextScheme::two_d) return;
  const int64_t ranks = whole ? l.ranks() : l.uly;
  const HeadShare share = partition_heads(r.heads, kv_heads, ranks)[static_cast<size_t>(rank % ranks)];
  r.first_head = share.first_head;
  r.heads = share.heads;
  if (!whole) {
    r.positions = layout.member_layout().positions(rank / l.uly);
    return;
  }
  r.positions.resize(static_cast<size_t>(layout.tokens()));
  std::iota(r.positions.begin(), r.positions.end(), 0);
}

ContextAttentionResult attend_again(const RankCall& call, const ContextGroups& groups, const ContextLayout& l,
                                    const ContextOptions& options) {
  const auto segment = [=, spec = call.spec, batch = call.batch](Tape& tape, const std::vector<Var>& in) {
    const auto r = context_attention(tape, groups, l.scheme, spec, in[0], in[1], in[2], batch, options);
    return spec.entropy ? std::vector<Var>{r.out, r.entropy} : std::vector<Var>{r.out};
  };
  const auto outs = call.tape.recompute({call.q, call.k, call.v}, segment);
  return {outs[0], outs.size() > 1 ? outs[1] : Var()};
}

ContextAttentionResult attend_once(const RankCall& call, const ContextGroups& groups, const ContextLayout& l,
                                   const ContextOptions& options) {
  const auto r = context_attention(call.tape, groups, l.scheme, call.spec, call.q, call.k, call.v, call.batch, options);
  for (const Var* v : {&call.q, &call.k, &call.v}) v->drop_value();  // as the contract allows
  return r;
}

}  // namespace

std::string ContextLayout::name() const {
  const std::string stride = scheme == ContextScheme::all_gather ? fmt::format("/{}", gather_heads) : "";
  return fmt::format("{} {}{} {} x {}{}", to_string(order), to_string(scheme), stride, ring, uly,
                     recompute ? " recomputed" : "");
}

ContextWorld::ContextWorld(Communicator& world, const ContextLayout& layout) : world_(world) {
  const int uly = static_cast<int>(layout.uly);
  ring_ = world.split(world.rank() % uly, world.rank(), "ring");
  uly_ = world.split(world.rank() / uly, world.rank(), "uly");
  self_ = world.split(world.rank(), 0, "self");
}

void run_context(Communicator& world, const RingCase& c, const ContextLayout& l, RingNumbers& numbers) {
  const SequenceLayout layout(l.order, c.dense.queries, l.ranks(), 1, l.pieces ? l.uly : 1);
  ContextWorld context(world, l);
  const auto attend = [&](const RankCall& call) {
    ContextOptions options{call.options, l.gather_heads};
    const auto r = l.recompute ? attend_again(call, context.groups(), l, options)
                               : attend_once(call, context.groups(), l, options);
    RankResult result{r.out, r.entropy, {}, 0, c.dense.heads, {}};
    describe_statistics(l, layout, world.rank(), c.dense.kv_heads, result);
    return result;
  };
  run_rank(world, c, layout, attend, numbers);
}

RingNumbers solve_context(const RingCase& c, const ContextLayout& layout, const CommOptions& options) {
  RingNumbers numbers = empty_numbers(c);
  run_in_process(
      layout.ranks(), [&](Communicator& world) { run_context(world, c, layout, numbers); }, options);
  numbers.lse.clear();
  return numbers;
}

}  // namespace farsight::testing
