// SPDX-License-Identifier: Apache-2.0
// Dense fp32 matrix product on the CPU: a thin wrapper around the GEMM library (oneDNN).
#pragma once

#include <cstdint>

namespace farsight {

enum class Transpose : bool { no, yes };

// C[m, n] = alpha * op(A)[m, k] * op(B)[k, n] + beta * C, row-major with leading dimensions in elements.
// beta = 0 overwrites C without reading it. Uses the threads of the calling thread; serial inside parallel_for.
// Throws Error{internal} for impossible sizes.
void matmul(Transpose trans_a, Transpose trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
            int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

// Name and version of the library, for doctor and reports.
const char* matmul_library();

}  // namespace farsight
