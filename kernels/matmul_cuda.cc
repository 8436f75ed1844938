// SPDX-License-Identifier: Apache-2.0
// Matrix products through cuBLASLt. One handle and one set of plans per thread and device; a plan is looked up by
// sizes, types and strides, so that the steady step asks the library nothing.
#include "kernels/matmul_cuda.h"

#include <cublasLt.h>

#include <map>
#include <memory>
#include <tuple>

#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/status_cuda.h"

namespace farsight::cuda {
namespace {

constexpr size_t kWorkspace = size_t{64} << 20;

int report_blas(const char* what, cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? 0 : failed(static_cast<int>(status), what, cublasLtGetStatusString(status));
}

cudaDataType_t native(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

struct Destroy {
  void operator()(cublasLtMatmulDesc_t d) const { cublasLtMatmulDescDestroy(d); }
  void operator()(cublasLtMatrixLayout_t d) const { cublasLtMatrixLayoutDestroy(d); }
  void operator()(cublasLtMatmulPreference_t d) const { cublasLtMatmulPreferenceDestroy(d); }
};
template <class Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>;

using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int, int, uint32_t, uint32_t, uint32_t>;

// Bytes that the address is a multiple of, as far as the library makes a difference: it expects 256 unless told.
uint32_t alignment(const void* pointer) {
  uint32_t bytes = 256;
  while (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) bytes /= 2;
  return bytes;
}

struct Plan {
  Owned<cublasLtMatmulDesc_t> operation;
  Owned<cublasLtMatrixLayout_t> a, b, c;
  cublasLtMatmulAlgo_t algorithm{};
};

struct Library {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::map<Key, Plan> plans;
};

// cuBLASLt is column-major: what it calls A is our B, its B is our A, and its result is the transpose of ours.
int layout(Owned<cublasLtMatrixLayout_t>& to, DType type, int64_t rows, int64_t cols, int64_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  const int status =
      report_blas("matmul layout", cublasLtMatrixLayoutCreate(&made, native(type), static_cast<uint64_t>(cols),
                                                              static_cast<uint64_t>(rows), stride));
  to.reset(made);
  return status;
}

int describe(const CudaMatmul& p, Plan& plan) {
  cublasLtMatmulDesc_t operation = nullptr;
  if (int s = report_blas("matmul descriptor", cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F)))
    return s;
  plan.operation.reset(operation);
  const auto set = [&](cublasLtMatmulDescAttributes_t what, const auto& value) {
    return report_blas("matmul attribute", cublasLtMatmulDescSetAttribute(operation, what, &value, sizeof(value)));
  };
  const bool ta = p.trans_a == Transpose::yes, tb = p.trans_b == Transpose::yes;
  if (int s = set(CUBLASLT_MATMUL_DESC_TRANSA, tb ? CUBLAS_OP_T : CUBLAS_OP_N)) return s;
  if (int s = set(CUBLASLT_MATMUL_DESC_TRANSB, ta ? CUBLAS_OP_T : CUBLAS_OP_N)) return s;
  if (p.bias != nullptr) {
    if (int s = set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS)) return s;
    if (int s = set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, native(p.type))) return s;
  }
  if (int s = layout(plan.a, p.type, tb ? p.n : p.k, tb ? p.k : p.n, p.ldb)) return s;
  if (int s = layout(plan.b, p.type, ta ? p.k : p.m, ta ? p.m : p.k, p.lda)) return s;
  return layout(plan.c, p.c_type, p.m, p.n, p.ldc);
}

int choose_algorithm(const CudaMatmul& p, Library& library, Plan& plan) {
  cublasLtMatmulPreference_t preference = nullptr;
  if (int s = report_blas("matmul preference", cublasLtMatmulPreferenceCreate(&preference))) return s;
  const Owned<cublasLtMatmulPreference_t> owner(preference);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    return report_blas("matmul preference",
                       cublasLtMatmulPreferenceSetAttribute(preference, what, &value, sizeof(value)));
  };
  if (int s = set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace)) return s;
  if (int s = set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b))) return s;
  if (int s = set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a))) return s;
  if (int s = set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.c))) return s;
  if (int s = set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.c))) return s;
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  if (int s = report_blas("matmul heuristics", cublasLtMatmulAlgoGetHeuristic(
                                                   library.handle, plan.operation.get(), plan.a.get(), plan.b.get(),
                                                   plan.c.get(), plan.c.get(), preference, 1, &best, &found))) {
    return s;
  }
  if (found == 0) return failed(1, "matmul", "cuBLASLt has no algorithm for these sizes");
  plan.algorithm = best.algo;
  return 0;
}

int open_library(Library*& library) {
  thread_local std::map<int, Library> libraries;  // never closed: the driver may be gone when a thread ends
  int device = 0;
  if (int s = report("matmul", cudaGetDevice(&device))) return s;
  library = &libraries[device];
  if (library->handle != nullptr) return 0;
  if (int s = report_blas("cuBLASLt", cublasLtCreate(&library->handle))) return s;
  return report("matmul workspace", cudaMalloc(&library->workspace, kWorkspace));
}

}  // namespace

int matmul(const CudaMatmul* p, CudaStream stream) {
  Library* library = nullptr;
  if (int s = open_library(library)) return s;
  const int kind = (p->trans_a == Transpose::yes ? 1 : 0) + (p->trans_b == Transpose::yes ? 2 : 0) +
                   (p->bias != nullptr ? 4 : 0) + (p->beta != 0.0F ? 8 : 0);
  const int types = static_cast<int>(p->type) * 256 + static_cast<int>(p->c_type);
  Plan& plan = library->plans[{p->m, p->n, p->k, p->lda, p->ldb, p->ldc, kind, types, alignment(p->a), alignment(p->b),
                               alignment(p->c)}];
  if (!plan.operation) {
    Plan fresh;
    if (int s = describe(*p, fresh)) return s;
    if (int s = choose_algorithm(*p, *library, fresh)) return s;
    plan = std::move(fresh);
  }
  if (p->bias != nullptr) {
    if (int s = report_blas("matmul bias",
                            cublasLtMatmulDescSetAttribute(plan.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                           &p->bias, sizeof(p->bias)))) {
      return s;
    }
  }
  const float alpha = 1.0F;
  return report_blas(
      "matmul", cublasLtMatmul(library->handle, plan.operation.get(), &alpha, p->b, plan.a.get(), p->a, plan.b.get(),
                               &p->beta, p->c, plan.c.get(), p->c, plan.c.get(), &plan.algorithm, library->workspace,
                               kWorkspace, reinterpret_cast<cudaStream_t>(stream)));
}

}  // namespace farsight::cuda
