// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/sdpa_offsets_cuda.h"
#include "kernels/cuda/dialect_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void documents_kernel(SdpaDocuments a) {
  const int64_t n = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (n > a.documents) return;
  if (n < a.documents) {
    a.q_lengths[n] = a.q_starts[n + 1] - a.q_starts[n];
    a.k_lengths[n] = a.k_starts[n + 1] - a.k_starts[n];
  }
  for (int m = 0; m < a.count; ++m) {
    const SdpaOffsets& to = a.matrices[m];
    const int64_t start = to.starts[n];
    to.offsets[n] = start / to.block_tokens * to.block + start % to.block_tokens * to.stride;
  }
}

}  // namespace

int sdpa_documents(const SdpaDocuments& a, CudaStream stream) {
  const auto blocks = static_cast<unsigned>((a.documents + kThreads) / kThreads);
  return launch("packed documents", documents_kernel, dim3(blocks), kThreads, 0, stream, a);
}

}  // namespace farsight::cuda
