// SPDX-License-Identifier: Apache-2.0
// Attention over sharded sequences by all-gather: every rank gets the keys and values of the whole sequence, a few key
// heads at a time, and keeps its queries. While some heads are computed the next ones arrive. Backward gathers again
// and reduce-scatters the gradients in fp32. Memory for keys: two slots of [B, T, stride heads], the same again for
// their gradients in backward; one of each where all heads go at once.
// Source: Dubey et al. 2024 (arXiv:2407.21783, section 3.3.2); head strides: parallelism specification, section 9.
#pragma once

#include <cstdint>

#include "kernels/attention/spec.h"
#include "kernels/tape.h"
#include "parallel/comm.h"
#include "parallel/ring_attention.h"
#include "parallel/sequence_batch.h"

namespace farsight {

// As ring_attention over `group`, with the same shapes, numbers and errors; `gather_heads` key heads at a time, 0 =
// all.
RingAttentionResult gather_attention(Tape& tape, Communicator& group, const AttentionSpec& spec, const Var& q,
                                     const Var& k, const Var& v, const SequenceBatch& batch, const RingOptions& options,
                                     int64_t gather_heads);

}  // namespace farsight
