// SPDX-License-Identifier: Apache-2.0
// Token dropout without stored masks. Whether an element is kept is a pure function of the sample's key, the global
// position of its row and the global channel, so every layout, every thread count and every replay draws the same mask,
// and backward computes it again instead of reading it.
//   word = philox(key[sample], {position, channel >> 2, 0, 0})[channel & 3]
//   keep iff word >= dropout_threshold(p);   y = keep ? x / (1 - p) : 0
// Source: parallelism specification, section 5.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tape.h"

namespace farsight {

// One place in the model where token dropout acts on rows [B * tokens_per_sample, C], or on a range of these rows
// (activations sharded over the tensor axis).
struct DropoutSite {
  double p = 0.0;                  // in [0, 1); 0 = no dropout, nothing else is read then
  std::span<const uint64_t> keys;  // [B] site_key of each sample; copied by the operations
  Tensor positions;                // i32 [B * tokens_per_sample] global row positions, on the device of the rows
  int64_t tokens_per_sample = 0;
  int64_t first_channel = 0;  // global channel of column 0 (tensor parallel shards); a multiple of 4
  int64_t first_row = 0;      // of the range
  int64_t row_count = -1;     // -1: all rows
};

// y = dropout(x); x [N, C], may be a column view; y is contiguous. Returns x itself when site.p is 0.
// Throws Error{internal} if the site does not describe N rows or p is outside [0, 1).
Var dropout(Tape& tape, const Var& x, const DropoutSite& site);

// residual + dropout(x), both [N, C]; contiguous. Holds nothing until backward. The sum has the bits of that in
// norm_residual (norm.h), which is to be preferred where a norm follows at once.
Var add_dropout(Tape& tape, const Var& x, const Var& residual, const DropoutSite& site);

}  // namespace farsight
