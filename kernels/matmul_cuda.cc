// SPDX-License-Identifier: Apache-2.0
// Matrix products through cuBLASLt. One handle and one set of plans per thread and device; a plan is looked up by
// sizes, types and strides, so that the steady step asks the library nothing.
#include <map>
#include <tuple>
#include <utility>

#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/status_cuda.h"
#include "kernels/matmul_descriptor_cuda.h"

namespace farsight::cuda {
namespace {

constexpr size_t kWorkspace = size_t{64} << 20;

int report_blas(const char* what, cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? 0 : failed(static_cast<int>(status), what, cublasLtGetStatusString(status));
}

// Bytes that the address is a multiple of, as far as the library makes a difference: it expects 256 unless told.
uint32_t alignment(const void* pointer) {
  uint32_t bytes = 256;
  while (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) bytes /= 2;
  return bytes;
}

// All that the choice of an algorithm depends on; an absent bias or aux is aligned best.
auto key_of(const CudaMatmul& p) {
  return std::tuple(p.trans_a, p.trans_b, p.m, p.n, p.k, p.type, p.c_type, p.lda, p.ldb, p.ldc, p.beta != 0.0F,
                    p.bias != nullptr, p.epilogue, p.aux_stride, alignment(p.a), alignment(p.b), alignment(p.c),
                    alignment(p.bias), alignment(p.aux));
}
using Key = decltype(key_of({}));

struct Plan {
  MatmulDescriptor d;
  bool available = false;  // the library has an algorithm for it
  cublasLtMatmulAlgo_t algorithm{};
};

struct Library {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::map<Key, Plan> plans;
};

int choose_algorithm(const CudaMatmul& p, Library& library, Plan& plan) {
  cublasLtMatmulPreference_t preference = nullptr;
  if (int s = report_blas("matmul preference", cublasLtMatmulPreferenceCreate(&preference))) return s;
  const MatmulHandle<cublasLtMatmulPreference_t> owner(preference);
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
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(library.handle, plan.d.operation.get(), plan.d.a.get(), plan.d.b.get(),
                                     plan.d.c.get(), plan.d.c.get(), preference, 1, &best, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return 0;
  if (int s = report_blas("matmul heuristics", status)) return s;
  plan.available = found > 0;
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

int find_plan(const CudaMatmul& p, Library*& library, Plan*& plan) {
  if (int s = open_library(library)) return s;
  plan = &library->plans[key_of(p)];
  if (plan->d.operation) return 0;
  Plan fresh;
  if (int s = report_blas("matmul descriptor", describe_matmul(p, fresh.d))) return s;
  if (int s = report_blas("matmul addresses", set_matmul_addresses(p, fresh.d))) return s;
  if (int s = choose_algorithm(p, *library, fresh)) return s;
  *plan = std::move(fresh);
  return 0;
}

}  // namespace

int matmul_available(const CudaMatmul* p, int32_t* available) {
  Library* library = nullptr;
  Plan* plan = nullptr;
  if (int s = find_plan(*p, library, plan)) return s;
  *available = plan->available ? 1 : 0;
  return 0;
}

int matmul(const CudaMatmul* p, CudaStream stream) {
  Library* library = nullptr;
  Plan* plan = nullptr;
  if (int s = find_plan(*p, library, plan)) return s;
  if (!plan->available) return failed(1, "matmul", "cuBLASLt has no algorithm for these sizes, strides and epilogue");
  if (int s = report_blas("matmul addresses", set_matmul_addresses(*p, plan->d))) return s;
  const float alpha = 1.0F;
  const MatmulDescriptor& d = plan->d;
  return report_blas("matmul", cublasLtMatmul(library->handle, d.operation.get(), &alpha, p->b, d.a.get(), p->a,
                                              d.b.get(), &p->beta, p->c, d.c.get(), p->c, d.c.get(), &plan->algorithm,
                                              library->workspace, kWorkspace, reinterpret_cast<cudaStream_t>(stream)));
}

}  // namespace farsight::cuda
