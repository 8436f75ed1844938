// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding. In each head the pair (x[i], x[i + D/2]) is turned by position * theta^(-2i/D):
//   y[i] = x[i] cos - x[i + D/2] sin,   y[i + D/2] = x[i + D/2] cos + x[i] sin
// Angles are computed in fp64 and rounded once. The gradient is the inverse rotation.
// Source: Su et al. 2021 (arXiv:2104.09864); pairing of halves as in Llama.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/tape.h"

namespace farsight {

// Cosines and sines of one set of rows, built once per micro-batch and used by every layer.
struct RopeTable {
  int64_t head_width = 0;
  Tensor cosine, sine;  // [N, head_width / 2] fp32
};

// positions i32, N in all: document-relative positions of the rows, on the device of the rows. Error{internal} for an
// odd head width.
RopeTable rope_table(const Tensor& positions, double theta, int64_t head_width);

// Rotates q [N, H * D] and k [N, Hkv * D] IN PLACE, values now and gradients in backward: the results share memory with
// q and k, whose values must not be read afterwards and which must have no other consumer. q and k must have been
// produced in the same recompute segment (a segment's input would be turned twice). Column views are fine.
std::pair<Var, Var> rope(Tape& tape, const Var& q, const Var& k, const RopeTable& table);
// The same for one of them.
Var rope(Tape& tape, const Var& x, const RopeTable& table);

}  // namespace farsight
