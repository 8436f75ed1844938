// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul_descriptor_cuda.h"

namespace farsight::cuda {
namespace {

cudaDataType_t native(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

cublasOperation_t native(Transpose trans) { return trans == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N; }

// The bias gradient that DGELU_BGRAD would bring is not what we need: it is of the type of D and overwrites, ours are
// fp32 sums over micro-batches (column_sums).
cublasLtEpilogue_t native(MatmulEpilogue epilogue, bool bias) {
  switch (epilogue) {
    case MatmulEpilogue::gelu:
      return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case MatmulEpilogue::gelu_gradient:
      return CUBLASLT_EPILOGUE_DGELU;
    case MatmulEpilogue::none:
      break;
  }
  return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

template <class Value>
cublasStatus_t set(const MatmulDescriptor& d, cublasLtMatmulDescAttributes_t what, const Value& value) {
  return cublasLtMatmulDescSetAttribute(d.operation.get(), what, &value, sizeof(value));
}

// A row-major matrix as the column-major one that it is: `cols` rows.
cublasStatus_t layout(MatmulHandle<cublasLtMatrixLayout_t>& to, DType type, int64_t rows, int64_t cols,
                      int64_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  const cublasStatus_t status =
      cublasLtMatrixLayoutCreate(&made, native(type), static_cast<uint64_t>(cols), static_cast<uint64_t>(rows), stride);
  to.reset(made);
  return status;
}

cublasStatus_t describe_epilogue(const CudaMatmul& p, const MatmulDescriptor& d) {
  if (auto s = set(d, CUBLASLT_MATMUL_DESC_EPILOGUE, native(p.epilogue, p.bias != nullptr))) return s;
  if (p.bias != nullptr) {
    if (auto s = set(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, native(p.type))) return s;
  }
  if (p.epilogue == MatmulEpilogue::none) return CUBLAS_STATUS_SUCCESS;
  if (auto s = set(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.aux_stride)) return s;
  return set(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, native(p.c_type));
}

}  // namespace

cublasStatus_t describe_matmul(const CudaMatmul& p, MatmulDescriptor& d) {
  cublasLtMatmulDesc_t operation = nullptr;
  if (auto s = cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F)) return s;
  d.operation.reset(operation);
  if (auto s = set(d, CUBLASLT_MATMUL_DESC_TRANSA, native(p.trans_b))) return s;
  if (auto s = set(d, CUBLASLT_MATMUL_DESC_TRANSB, native(p.trans_a))) return s;
  if (auto s = describe_epilogue(p, d)) return s;
  const bool ta = p.trans_a == Transpose::yes, tb = p.trans_b == Transpose::yes;
  if (auto s = layout(d.a, p.type, tb ? p.n : p.k, tb ? p.k : p.n, p.ldb)) return s;
  if (auto s = layout(d.b, p.type, ta ? p.k : p.m, ta ? p.m : p.k, p.lda)) return s;
  return layout(d.c, p.c_type, p.m, p.n, p.ldc);
}

cublasStatus_t set_matmul_addresses(const CudaMatmul& p, const MatmulDescriptor& d) {
  if (p.bias != nullptr) {
    if (auto s = set(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias)) return s;
  }
  if (p.epilogue == MatmulEpilogue::none) return CUBLAS_STATUS_SUCCESS;
  return set(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.aux);
}

}  // namespace farsight::cuda
