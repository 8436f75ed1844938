// SPDX-License-Identifier: Apache-2.0
// Matrix products on the device (see matmul.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

enum class Transpose : bool { no, yes };

// C[m, n] = op(A)[m, k] op(B)[k, n] + beta C (+ bias[n]), row-major.
struct CudaMatmul {
  Transpose trans_a, trans_b;
  int64_t m, n, k;
  const void* a;
  int64_t lda;
  const void* b;
  int64_t ldb;
  DType type;  // of A, B and bias
  float beta;
  void* c;
  int64_t ldc;
  DType c_type;
  const void* bias;  // null: none
};

}  // namespace farsight
