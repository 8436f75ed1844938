// SPDX-License-Identifier: Apache-2.0
// Matrix products on the device (see matmul.h).
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace farsight {

enum class Transpose : bool { no, yes };

// What becomes of P = op(A)[m, k] op(B)[k, n] (+ bias[n]), all row-major. GELU is that of gelu.h.
//   none           C[m, n] = P + beta C
//   gelu           C = gelu(P), aux = P; beta is 0
//   gelu_gradient  C = P * gelu'(aux); beta is 0, no bias
enum class MatmulEpilogue : int32_t { none, gelu, gelu_gradient };

// The library's own limit for aux: rows a multiple of 8 elements apart. It begins at a multiple of 16 bytes.
inline constexpr int64_t kMatmulAuxStride = 8, kMatmulAuxBytes = 16;

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
  DType c_type;      // and of aux
  const void* bias;  // null: none
  MatmulEpilogue epilogue;
  void* aux;  // [m, n]; read by gelu_gradient
  int64_t aux_stride;
};

}  // namespace farsight
