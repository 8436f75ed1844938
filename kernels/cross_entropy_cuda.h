// SPDX-License-Identifier: Apache-2.0
// Cross-entropy on the device, a chunk of logits at a time (see cross_entropy.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

// Logits of a chunk. Columns from `columns` on are padding.
struct CudaLogits {
  DType type;
  int64_t rows, columns, width;
  void* z;                // [rows, width]
  const int32_t* labels;  // [rows], global; -1: masked
  int64_t first;          // global id of column 0
  int64_t vocabulary;     // of the whole model
};

// largest[row] of the columns here; -inf without columns.
struct CudaLogitMaxima {
  CudaLogits logits;
  float* largest;
};

// Per row, with m = largest: sum e^(z - m), z_label - m (0 where the label is not here), sum (z - m).
struct CudaLogitSums {
  CudaLogits logits;
  const float* largest;
  double* sums;  // [rows, 3]
};

// totals += (sum of row losses, sum of -log p_label); loss = scale * totals[0].
struct CudaLogitLosses {
  CudaLogits logits;
  const double* sums;
  double smoothing, scale;
  double* row_nll;  // [rows], null: not wanted
  double* totals;   // [2]
  float* loss;      // [1]
};

// z := scale (softmax(z) - (1 - smoothing) onehot(label) - smoothing / vocabulary), zero in masked rows and padding.
struct CudaLogitGradients {
  CudaLogits logits;
  const float* largest;
  const double* sums;
  double smoothing, scale;
};

}  // namespace farsight
