// SPDX-License-Identifier: Apache-2.0
// `farsight bench attention`: the blockwise attention of this program against dense attention written with a BLAS, in
// one run and with the same data: figure, reference, ratio, and the fraction of the FMA peak measured in between.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <vector>

namespace farsight {

struct BenchAttentionOptions {
  std::vector<int64_t> tokens = {1024, 2048, 4096, 8192};
  int64_t heads = 12;
  int64_t width = 64;         // of one head
  int repeats = 5;            // of each of our passes
  int reference_repeats = 3;  // of each dense pass
  bool backward = true;
  // Processor time of the calling thread instead of wall time, with one thread: for machines that others use too.
  bool cpu_clock = false;
  uint64_t seed = 1;
};

// Median, fastest and slowest of the repeats, in seconds.
struct BenchTime {
  double median = 0.0, fastest = 0.0, slowest = 0.0;
};

// One sequence length, causal, batch 1, fp32. The dense reference computes the whole T x T scores of one head with
// matmul(), masks and normalises their rows, and multiplies with V, head after head.
struct AttentionBenchResult {
  int64_t tokens = 0;
  int threads = 0;
  double peak_flops = 0.0;                           // best of the probes between the repeats
  BenchTime forward, backward;                       // ours; backward without the forward pass
  BenchTime dense_forward;                           // every row masked and softmaxed in scalar code with libm's expf
  BenchTime dense_vector_forward;                    // vectorised exp over the visible part of each row only
  BenchTime dense_backward;                          // forward included: it needs the weights of each head
  double forward_error = 0.0, backward_error = 0.0;  // largest difference to the reference / largest magnitude
  double forward_flops = 0.0, backward_flops = 0.0;  // 4 and 10 x width per visible pair
};

// Compares the results before it times anything. Throws Error{internal} when they differ by more than 1e-4.
AttentionBenchResult run_attention_bench(const BenchAttentionOptions& options, int64_t tokens);

// Runs and prints all lengths; returns the exit code 0. Throws what run_attention_bench throws.
int bench_attention(const BenchAttentionOptions& options, std::ostream& out);

}  // namespace farsight
