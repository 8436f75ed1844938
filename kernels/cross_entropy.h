// SPDX-License-Identifier: Apache-2.0
// The output projection and the cross-entropy behind it as one operation that never holds more than
// chunk_rows x V logits. With z = x W^T, lse = log sum exp z, smoothing e, V the vocabulary:
//   row loss = lse - (1 - e) z_y - e mean(z)          (natural logarithm; e = 0: -log p_y)
//   dz = scale * (softmax(z) - (1 - e) onehot(y) - e / V)
// Rows with label -1 are masked: they contribute exactly zero. Log-sum-exp form throughout, sums of losses in fp64.
//   x [N, C], may be a column view; weight [V, C]; labels [N] in [-1, V). On a device the logits have the type of x.
// Throws Error{data} for a label out of range, naming the row; Error{internal} for sizes that do not match.
// Source: parallelism specification, sections 6 and 14.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "kernels/tape.h"

namespace farsight {

// A slice of the vocabulary on this rank. The two reductions run over the ranks that hold the other slices, once per
// chunk each and in the same order everywhere; dx is then a partial sum that the caller reduces.
struct VocabularyShard {
  int64_t first = 0;       // global id of the weight's first row
  int64_t vocabulary = 0;  // V of the whole model without padding; rows of the weight from there on are padding
  std::function<void(const Tensor&)> all_reduce_max;  // f32
  std::function<void(const Tensor&)> all_reduce_sum;  // f64
};

struct CrossEntropyOptions {
  double scale = 1.0;  // of the loss and of every gradient: 1 / (valid labels of the whole optimizer step)
  float label_smoothing = 0.0F;
  int64_t chunk_rows = 0;  // 0 = 64 MiB of logits, but at least 256 rows: each chunk streams the weight
  const VocabularyShard* shard = nullptr;
};

struct CrossEntropyResult {
  Var loss;           // [1]: scale * loss_sum
  Tensor sums;        // f64 [2], where x lies: sum of row losses; the same without smoothing: sum of -log p_y
  int64_t valid = 0;  // rows with a label
  // Elements of `sums`; wait for the device.
  double loss_sum() const { return sums.to(Device::cpu).data<double>()[0]; }
  double nll_sum() const { return sums.to(Device::cpu).data<double>()[1]; }
};

// When the tape records, the gradients are computed here, chunk by chunk, while the logits exist: the weight's gradient
// is accumulated at once, x's is held until backward. So a recorded loss must be followed by its backward, and the
// gradient that reaches `loss` must be 1 (on the CPU Error{internal} otherwise): put factors into `scale`. The weight
// counts as used until that backward, so that its gradient-ready event keeps its meaning.
CrossEntropyResult linear_cross_entropy(Tape& tape, const Var& x, Parameter& weight, std::span<const int32_t> labels,
                                        const CrossEntropyOptions& options);

// The logits of a few rows, for generation: x [N, C] -> [N, V] (MemoryTag::logits).
Tensor logits(const Tensor& x, const Parameter& weight);

// -log p_y of every row (0 for masked ones) into row_nll [N], without gradients. Returns sums as above, loss undefined.
CrossEntropyResult evaluate_cross_entropy(const Tensor& x, const Parameter& weight, std::span<const int32_t> labels,
                                          std::span<double> row_nll, int64_t chunk_rows = 0);

}  // namespace farsight
