// SPDX-License-Identifier: Apache-2.0
// Sums, maxima and votes over the threads of a warp or a block, in a fixed order: equal bits on every run.
#pragma once

#include "kernels/cuda/dialect_cuda.h"

namespace farsight::cuda {

inline constexpr unsigned kWholeWarp = 0xFFFFFFFFU;

template <class T>
__device__ T warp_sum(T value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kWholeWarp, value, distance);
  return value;
}

// fmaxf drops NaN; this keeps it.
__device__ inline float max_or_nan(float a, float b) { return (a > b || a != a) ? a : b; }

__device__ inline float warp_max(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = max_or_nan(value, __shfl_xor_sync(kWholeWarp, value, distance));
  }
  return value;
}

// The lowest lane of the warp that says yes, or 32 where none does.
__device__ inline int lowest_lane(bool yes) {
  const unsigned votes = __ballot_sync(kWholeWarp, yes);
  return votes == 0 ? 32 : __ffs(static_cast<int>(votes)) - 1;
}

// Every thread gets the result. `scratch` has room for one value per warp; no thread may still be reading it.
template <class T, class Join>
__device__ T block_join(T value, T* scratch, const Join& join) {
  const int warp = static_cast<int>(threadIdx.x) / 32, warps = static_cast<int>(blockDim.x) / 32;
  if (threadIdx.x % 32 == 0) scratch[warp] = value;
  __syncthreads();
  T result = scratch[0];
  for (int w = 1; w < warps; ++w) result = join(result, scratch[w]);
  __syncthreads();
  return result;
}

template <class T>
__device__ T block_sum(T value, T* scratch) {
  return block_join(warp_sum(value), scratch, [](T a, T b) { return a + b; });
}

__device__ inline float block_max(float value, float* scratch) {
  return block_join(warp_max(value), scratch, [](float a, float b) { return max_or_nan(a, b); });
}

}  // namespace farsight::cuda
