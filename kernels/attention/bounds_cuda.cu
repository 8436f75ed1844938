// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/bounds_cuda.h"
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"

namespace farsight::cuda {
namespace {

__device__ CudaRowBounds joined_over_warp(CudaRowBounds r) {
  for (int distance = 16; distance > 0; distance /= 2) {
    include(
        r,
        {__shfl_xor_sync(kWholeWarp, r.position_min, distance), __shfl_xor_sync(kWholeWarp, r.position_max, distance),
         __shfl_xor_sync(kWholeWarp, r.document_min, distance), __shfl_xor_sync(kWholeWarp, r.document_max, distance)});
  }
  return r;
}

// A warp per group, a lane per fine bound.
static_assert(kCudaGroupRows == 32 * kCudaBoundRows);
__global__ void bounds_kernel(CudaAttentionBounds a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t fine = cuda_fine_bounds(a.tokens), groups = cuda_bounds(a.tokens) - fine;
  const int64_t warps = int64_t{gridDim.x} * kElementThreads / 32;
  for (int64_t i = (blockIdx.x * int64_t{kElementThreads} + threadIdx.x) / 32; i < a.batch * groups; i += warps) {
    const int64_t b = i / groups, group = i % groups, at = 32 * group + lane;
    const int64_t begin = at * kCudaBoundRows;
    const int64_t end = begin + kCudaBoundRows < a.tokens ? begin + kCudaBoundRows : a.tokens;
    CudaRowBounds r{INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN};
    for (int64_t t = b * a.tokens + begin; t < b * a.tokens + end; ++t) {
      const int32_t p = a.positions[t], d = a.documents == nullptr ? 0 : a.documents[t];
      include(r, {p, p, d, d});
    }
    CudaRowBounds* to = a.bounds + b * (fine + groups);
    if (at < fine) to[at] = r;
    r = joined_over_warp(r);
    if (lane == 0) to[fine + group] = r;
  }
}

}  // namespace

int attention_bounds(const CudaAttentionBounds* a, CudaStream stream) {
  const int64_t groups = cuda_bounds(a->tokens) - cuda_fine_bounds(a->tokens);
  return launch("attention bounds", bounds_kernel, element_blocks(a->batch * groups, 32, 1), kElementThreads, 0, stream,
                *a);
}

}  // namespace farsight::cuda
