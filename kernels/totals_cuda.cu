// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/reduce_cuda.h"
#include "kernels/cuda/vector_cuda.h"
#include "kernels/totals_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void sum_kernel(CudaSum a) {
  __shared__ double scratch[32];
  const int64_t share = ceil_div(a.count, a.blocks);
  const int64_t begin = blockIdx.x * share;
  const int64_t end = begin + share < a.count ? begin + share : a.count;
  double total = 0.0;
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const auto x = static_cast<double>(a.values[i]);
    total += a.squares ? x * x : x;
  }
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) a.partial[blockIdx.x] = total;
}

__global__ void sum_end_kernel(CudaSum a) {
  __shared__ double scratch[32];
  double total = 0.0;
  for (int64_t i = threadIdx.x; i < a.blocks; i += kThreads) total += a.partial[i];
  total = block_sum(total, scratch);
  if (threadIdx.x != 0) return;
  *a.total += a.weight * total;
  if (a.rounded != nullptr) *a.rounded = static_cast<float>(*a.total);
}

__global__ void add_kernel(CudaAddTotal a) {
  if (threadIdx.x == 0) *a.total += *a.other;
}

__global__ void gate_kernel(CudaUpdateGate a) {
  if (threadIdx.x != 0) return;
  bool finite = true;
  for (int64_t i = 0; i < a.count; ++i) finite = finite && a.totals[i] - a.totals[i] == 0.0;
  const double factor = a.max_norm / (sqrt(a.totals[a.count - 1]) + 1e-6);
  const double clipped = a.max_norm > 0.0 && factor < 1.0 ? factor : 1.0;
  *a.gate = finite ? static_cast<float>(clipped) : NAN;
}

}  // namespace

int add_sum(const CudaSum* a, CudaStream stream) {
  const dim3 blocks(static_cast<unsigned>(a->blocks));
  if (const int status = launch("sum", sum_kernel, blocks, kThreads, 0, stream, *a)) return status;
  return launch("sum", sum_end_kernel, dim3(1), kThreads, 0, stream, *a);
}

int add_total(const CudaAddTotal* a, CudaStream stream) {
  return launch("add_total", add_kernel, dim3(1), 32, 0, stream, *a);
}

int update_gate(const CudaUpdateGate* a, CudaStream stream) {
  return launch("update_gate", gate_kernel, dim3(1), 32, 0, stream, *a);
}

}  // namespace farsight::cuda
