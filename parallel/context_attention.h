// SPDX-License-Identifier: Apache-2.0
// Attention of sequences sharded over the context axes, by any scheme. Arguments and results lie the same way in every
// scheme, so that layers may differ in it; the numbers differ by rounding only.
//   ring        queries stay, keys and values travel round the whole context group
//   all_gather  queries stay, keys and values of a few heads at a time come from the whole group
//   ulysses     all-to-all over the whole group: all tokens of some heads
//   two_d       all-to-all over the ulysses ranks, ring over the others
// Every policy of the spec works in every scheme; ulysses and two_d need a query head for each rank they cut heads
// over.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/attention/spec.h"
#include "kernels/tape.h"
#include "parallel/comm.h"
#include "parallel/ring_attention.h"
#include "parallel/sequence_batch.h"

namespace farsight {

enum class ContextScheme : uint8_t { ring, all_gather, ulysses, two_d };
const char* to_string(ContextScheme scheme);

// Rank in `context` = rank in `ring` * size of `uly` + rank in `uly`. All must outlive the tape. Make `self` a split of
// the world: then transfers of the other communicators advance while it computes.
struct ContextGroups {
  Communicator& ring;
  Communicator& uly;
  Communicator& context;
  Communicator& self;  // one rank
};

struct ContextOptions : RingOptions {
  int64_t gather_heads = 0;  // of all_gather: key heads at a time, 0 = all
};

struct ContextAttentionResult {
  Var out;  // [B*n, H*Dv]
  // Row entropies whose gradient is used; not defined() unless spec.entropy. [B, heads, rows]: those that this rank
  // computed, which depends on the scheme. Their sum over the context group does not.
  Var entropy;
};

// q [B*n, H*D], k [B*n, Hkv*D], v [B*n, Hkv*Dv], fp32, column views allowed; n is this rank's count of batch.layout,
// whose owners are the ranks of `context` and, for two_d, whose pieces are those of `uly`. (An order balances the work
// of its members: for ring and all_gather a layout without pieces is the better one.) H are all heads of this rank,
// with spec.alibi_slopes for each; under ulysses and two_d a rank reads and adds gradients to those rows of
// score_vectors whose heads it computes, and zero to the others. Collective over the groups in use, and so is its
// backward: every rank must run backward through `out` or `entropy`, a rank without tokens too. Does not read the
// values of the Vars q, k, v again: the caller may drop them. Throws Error{config} for fewer heads than ranks that
// share them, Error{internal} for inconsistent shapes.
ContextAttentionResult context_attention(Tape& tape, const ContextGroups& groups, ContextScheme scheme,
                                         const AttentionSpec& spec, const Var& q, const Var& k, const Var& v,
                                         const SequenceBatch& batch, const ContextOptions& options);

}  // namespace farsight
