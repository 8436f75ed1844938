// SPDX-License-Identifier: Apache-2.0
// Ulysses: from "all heads of some tokens" to "some heads of all tokens of the group", and back, as differentiable
// operations. One all-to-all each way: q, k and v travel together, and so do their gradients. Counts of tokens and of
// heads may differ between ranks, and a rank may have no tokens.
// Source: Jacobs et al. 2023 (arXiv:2309.14509); uneven heads and few key heads: parallelism specification, section 10.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tape.h"
#include "parallel/comm.h"
#include "parallel/head_partition.h"
#include "parallel/sequence_order.h"

namespace farsight {

// What moves between the ranks of a group, the same description on all of them.
struct HeadExchangePlan {
  int64_t batch = 0;  // B
  // Places of each rank's tokens in the joined sequence of the group: ascending, and [0, N) in all.
  std::vector<std::vector<SequenceRange>> places;
  std::vector<HeadShare> shares;  // heads of each rank
};

// Some heads of all tokens of the group in the order of the joined sequence: columns of one tensor.
struct HeadRows {
  Var q;  // [B*N, heads * D]
  Var k;  // [B*N, key heads * D]
  Var v;  // [B*N, key heads * Dv]
};

// q [B*n, H*D], k [B*n, Hkv*D], v [B*n, Hkv*Dv], fp32, column views allowed; n is this rank's number of places.
// Gradients of key heads that several ranks or several places use are summed in rank order. Collective over `group`,
// and so is its backward; `group` must outlive the tape. Does not read the values of q, k, v again.
// Throws Error{internal} for shapes that contradict the plan.
HeadRows scatter_heads(Tape& tape, Communicator& group, const HeadExchangePlan& plan, const Var& q, const Var& k,
                       const Var& v);

// The way back of an output: [B*N, heads of this rank * Dv] to [B*n, H*Dv].
Var gather_heads(Tape& tape, Communicator& group, const HeadExchangePlan& plan, const Var& out);

}  // namespace farsight
