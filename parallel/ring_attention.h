// SPDX-License-Identifier: Apache-2.0
// Attention over sequences sharded along the ring: every rank keeps its queries, keys and values travel. While a block
// is computed the next one is on its way. Memory is O(T / ring) per rank, in forward and backward.
//
// Backward sends the keys and values around again; their fp32 gradients follow one hop behind and are summed in hop
// order. A ring of one rank is the same code without transfers. With a causal window in contiguous order only the hops
// that can be seen are made (ring_hops), the same number on all ranks.
// Source: Liu et al. 2023 (arXiv:2310.01889); striped order: arXiv:2311.09431; parallelism specification, section 8.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/spec.h"
#include "kernels/tape.h"
#include "parallel/comm.h"
#include "parallel/sequence_batch.h"

namespace farsight {

// What a recomputed layer keeps of its attention, so that backward need not compute the scores a third time: filled by
// the first call that is given it, used and emptied by the next one, which must have the same arguments.
struct AttentionSaved {
  Tensor out;
  std::vector<Tensor> lse, entropy;  // of each part that is computed by itself
};

struct RingOptions {
  int64_t heads = 1;     // H
  int64_t kv_heads = 1;  // Hkv, divides H
  // Key of the dropout of the weights: site_key(seed, step, sample, layer, Site::attention).
  uint64_t seed = 0, step = 0, layer = 0;
  int64_t first_head = 0;              // number of query head 0 in the whole model: dropout draws by it
  Parameter* score_vectors = nullptr;  // [H, D] of AttentionScore::additive; null otherwise
  int64_t first_vector = 0;            // row of score_vectors for query head 0, where it has more rows than H
  AttentionSaved* saved = nullptr;     // null: nothing is kept
};

struct RingAttentionResult {
  Var out;      // [B*n, H*Dv]
  Var entropy;  // [B, H, n] row entropies whose gradient is used; not defined() unless spec.entropy
  Tensor lse;   // [B, H, n] natural log; -inf for a row that sees no key
};

// q [B*n, H*D], k [B*n, Hkv*D], v [B*n, Hkv*Dv], fp32; each may be a column view with a row stride; n is this rank's
// count of batch.layout, whose owners are the ranks of `ring`. Collective over `ring`, and so is its backward: every
// rank must run backward through `out` or `entropy`, a rank without tokens too. `ring` must outlive the tape. Does not
// read the values of the Vars q, k, v again: the caller may drop them. spec.alibi_slopes are those of the H heads.
// Throws Error{internal} for inconsistent shapes.
RingAttentionResult ring_attention(Tape& tape, Communicator& ring, const AttentionSpec& spec, const Var& q,
                                   const Var& k, const Var& v, const SequenceBatch& batch, const RingOptions& options);

// Exchanges of keys and values that `ring_attention` makes: owners - 1, or fewer when a causal window in contiguous
// order reaches no further. A function of arguments that are equal on all ranks.
int64_t ring_hops(const AttentionSpec& spec, const SequenceLayout& layout);

}  // namespace farsight
