// SPDX-License-Identifier: Apache-2.0
// Dense matrix products: thin wrappers around the GEMM library, oneDNN on the CPU and cuBLASLt on a CUDA device.
#pragma once

#include <cstdint>

#include "kernels/matmul_cuda.h"
#include "kernels/tensor.h"

namespace farsight {

// C[m, n] = alpha * op(A)[m, k] * op(B)[k, n] + beta * C, row-major with leading dimensions in elements.
// beta = 0 overwrites C without reading it. Uses the threads of the calling thread; serial inside parallel_for.
// Throws Error{internal} for impossible sizes.
void matmul(Transpose trans_a, Transpose trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
            int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

// The same on tensors that lie on one device; sizes and leading dimensions are theirs. On the CPU all are fp32. On a
// device a and b are both f32 or both bf16, c is f32 or of their type, and sums are formed in fp32. bias: added to
// every row of c, of the type of a and b; not defined() = none.
void matmul(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, float beta, const Tensor& c,
            const Tensor& bias = {});

// Name and version of the library, for doctor and reports.
const char* matmul_library();

}  // namespace farsight
