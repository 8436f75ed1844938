// SPDX-License-Identifier: Apache-2.0
// A matrix product in the words of cuBLASLt, which are column-major: its matrix A is our B, its B is our A, and its D
// is the transpose of our C. So the rows of D, which its bias belongs to, are our columns, and a leading dimension is
// the stride of our rows. Made without a device or a driver.
// Source: cublasLt.h.
#pragma once

#include <cublasLt.h>

#include <memory>
#include <type_traits>

#include "kernels/matmul_cuda.h"

namespace farsight::cuda {

struct DestroyMatmulHandle {
  void operator()(cublasLtMatmulDesc_t d) const { cublasLtMatmulDescDestroy(d); }
  void operator()(cublasLtMatrixLayout_t d) const { cublasLtMatrixLayoutDestroy(d); }
  void operator()(cublasLtMatmulPreference_t d) const { cublasLtMatmulPreferenceDestroy(d); }
};
template <class Handle>
using MatmulHandle = std::unique_ptr<std::remove_pointer_t<Handle>, DestroyMatmulHandle>;

struct MatmulDescriptor {
  MatmulHandle<cublasLtMatmulDesc_t> operation;
  MatmulHandle<cublasLtMatrixLayout_t> a, b, c;  // a: of our B
};

// Everything but the addresses of bias and aux.
cublasStatus_t describe_matmul(const CudaMatmul& p, MatmulDescriptor& d);
// These addresses: before the library is asked for an algorithm, which it expects to be aligned as they are, and before
// every call.
cublasStatus_t set_matmul_addresses(const CudaMatmul& p, const MatmulDescriptor& d);

}  // namespace farsight::cuda
