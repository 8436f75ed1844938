// SPDX-License-Identifier: Apache-2.0
// Random calls of the attention library with their numbers, and the same problem for the dense fp64 oracle. Shared by
// the test that runs them and the one that reads their graphs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/attention/sdpa_cuda.h"
#include "tests/kernels/attention_oracle.h"

namespace farsight::testing {

// Documents of a packed call; every row of `lse_tokens` queries is covered.
struct SdpaDocumentList {
  std::vector<int32_t> q_starts, k_starts;
  int64_t lse_tokens = 0;
  bool align_ends = false;
};

struct SdpaProblem {
  CudaSdpa a{};                // without addresses and strides
  SdpaDocumentList documents;  // empty: not packed
  DenseAttention dense;        // values are exact in bf16
  std::vector<double> dout;
  DType dq_type = DType::f32;

  bool packed() const { return !documents.q_starts.empty(); }
  int64_t q_rows() const { return packed() ? documents.q_starts.back() : a.batch * a.q_tokens; }
  int64_t k_rows() const { return packed() ? documents.k_starts.back() : a.batch * a.k_tokens; }
  std::string text() const;
};

// Sizes up to most_tokens, any mask that leaves a key to most queries: ask sdpa_refusal.
SdpaProblem random_sdpa(uint64_t seed, int64_t most_tokens);
// Rows of documents end to end, some places for documents left empty.
SdpaProblem random_packed_sdpa(uint64_t seed, int64_t most_rows = 2);
// The same with twice as many keys as queries and three more in each document, the last query beside the last key. For
// one row: the oracle's rows have equal numbers of keys.
void lengthen_keys(SdpaProblem& p, uint64_t seed);
// Positions and values for the sizes and the mask of p.a.
void fill_sdpa(SdpaProblem& p, uint64_t seed);

}  // namespace farsight::testing
