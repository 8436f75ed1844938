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

// Products of which GELU (gelu.h) is a part: the library applies it to the sums before it stores them, so that they are
// not read and written once more. c and pre [m, n] have one shape.
//   matmul_gelu           pre = op(A) op(B) (+ bias), c = gelu(pre) of the sums before they were rounded
//   matmul_gelu_gradient  c = (op(A) op(B)) * gelu'(pre)
// All matrices are tensors for which takes_gelu() says so; Error{internal} for others. Whether the library has such a
// product is asked with the tensors it is to be given, or others that are alike: has_matmul_gelu().
void matmul_gelu(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, const Tensor& bias,
                 const Tensor& pre, const Tensor& c);
void matmul_gelu_gradient(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, const Tensor& pre,
                          const Tensor& c);
bool has_matmul_gelu(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, const Tensor& bias,
                     const Tensor& pre, const Tensor& c);
bool has_matmul_gelu_gradient(Transpose trans_a, Transpose trans_b, const Tensor& a, const Tensor& b, const Tensor& pre,
                              const Tensor& c);
// A bf16 matrix on a device whose rows begin at multiples of 16 bytes. The library demands that of pre, and has no such
// product on Hopper for some that are aligned worse. Not f32: that is for comparing with the CPU, and the accuracy of
// the library's GELU, which bf16 cannot show, is documented nowhere.
bool takes_gelu(const Tensor& matrix);

// Name and version of the library, for doctor and reports.
const char* matmul_library();

}  // namespace farsight
