// SPDX-License-Identifier: Apache-2.0
// One random attention problem over whole sequences, its dense fp64 solution, and the same problem solved by ranks that
// hold pieces of it. Shared by the in-process and the MPI tests.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/tape.h"
#include "parallel/comm.h"
#include "parallel/ring_attention.h"
#include "parallel/sequence_batch.h"
#include "tests/kernels/attention_oracle.h"

namespace farsight::testing {

enum class RingFeature : uint8_t {
  full,  // no mask at all
  causal,
  window,  // causal, 20 to the left
  documents,
  alibi,
  dropout,
  entropy,
  additive  // with entropy
};
const char* name_of(RingFeature feature);

struct RingCase {
  DenseAttention dense;  // positions 0 .. T-1 of every row, values representable in fp32
  std::vector<double> dout, grad_entropy;
  SequenceBatch batch;  // layout of one owner; run_ring takes its own
  uint64_t seed = 7, step = 3, layer = 1;
};

RingCase make_ring_case(RingFeature feature, int64_t tokens, int64_t heads, int64_t kv_heads, uint64_t seed);

// Results in position order, layouts as in the oracle. dy is the sum over the ranks. An empty lse is not compared.
struct RingNumbers {
  std::vector<double> out, lse, entropy, dq, dk, dv, dy;
};
RingNumbers empty_numbers(const RingCase& c);

// What the attention under test is called with on one rank; q, k, v are columns of one tensor.
struct RankCall {
  Tape& tape;
  const AttentionSpec& spec;
  const Var &q, &k, &v;
  const SequenceBatch& batch;
  RingOptions options;
};

// What it gives: `out` of the rank's rows, and the statistics of some heads of some rows.
struct RankResult {
  Var out, entropy;
  Tensor lse;  // not compared if not defined
  int64_t first_head = 0, heads = 0;
  std::vector<int32_t> positions;
};

// One rank's part, forward and backward; its rows go into `numbers`. Different ranks write different elements, dy is
// summed over `group`, whose ranks are the owners of the layout. Throws Error{internal} if score vectors of heads
// outside the result's get a gradient.
void run_rank(Communicator& group, const RingCase& c, const SequenceLayout& layout,
              const std::function<RankResult(const RankCall&)>& attend, RingNumbers& numbers);

// run_rank of ring_attention.
void run_ring(Communicator& ring, const RingCase& c, const SequenceLayout& layout, RingNumbers& numbers);

struct RingErrors {
  double forward = 0.0, backward = 0.0;  // largest error relative to the largest magnitude of each tensor
};
// The dense solution, computed once per case.
RingNumbers dense_numbers(const RingCase& c);
RingErrors compare(const RingNumbers& dense, const RingNumbers& numbers);

}  // namespace farsight::testing
