// SPDX-License-Identifier: Apache-2.0
// One random attention problem drawn from a seed, run through the blockwise operator in random pieces and compared with
// the dense fp64 oracle. Shared by the property tests and the fuzz program.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "tests/kernels/attention_oracle.h"

namespace farsight::testing {

using Generator = std::mt19937_64;

struct AttentionCase {
  DenseAttention dense;                        // every value is exactly representable in fp32
  std::vector<double> dout;                    // [B,Tq,H,Dv]
  std::vector<double> grad_lse, grad_entropy;  // [B,H,Tq]; grad_entropy is 0 without spec.entropy
  std::vector<std::vector<int64_t>> blocks;    // key rows of each block, in the order of the calls
};

// Everything random: sizes up to about max_tokens, policies, positions (whole, sharded, permuted), documents, blocks.
AttentionCase random_case(uint64_t seed, int64_t max_tokens, int64_t max_width = 256);

// Fills values, gradients and one block with all keys; sizes, spec, positions are taken as they are in `dense`.
AttentionCase filled_case(DenseAttention dense, uint64_t seed);

struct AttentionNumbers {  // fp32 results, layouts as in the oracle
  std::vector<float> out, lse, entropy, dq, dk, dv, dy;
};
// On the device of this thread, with q, k, v and dout of this type.
AttentionNumbers run_blocks(const AttentionCase& c, DType type = DType::f32);
// Makes every value exactly representable in bf16.
void round_values(AttentionCase& c);

// Largest errors relative to the largest magnitude of each result.
struct AttentionErrors {
  double forward = 0.0;   // out, lse, entropy
  double backward = 0.0;  // dq, dk, dv, dy
};
AttentionErrors compare_with_oracle(const AttentionCase& c, const AttentionNumbers& numbers);

std::string describe(const AttentionCase& c);

}  // namespace farsight::testing
