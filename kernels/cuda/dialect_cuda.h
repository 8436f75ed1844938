// SPDX-License-Identifier: Apache-2.0
// The few things through which device code reaches the machine: types, launches, shared memory. Kernels are written in
// CUDA C++ with these, so that the emulator of tests/emulation, which has the same names, runs the same source on a
// CPU: its header is included first there and takes the place of this one.
#pragma once

#ifndef FARSIGHT_CUDA_DIALECT

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/status_cuda.h"

namespace farsight::cuda {

using bf16 = __nv_bfloat16;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return __bfloat162float(x); }

template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}

// The dynamic shared memory of the launch, 128-byte aligned.
template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char farsight_dynamic_shared[];
  return reinterpret_cast<T*>(farsight_dynamic_shared);
}

// Starts blocks x threads of a kernel that takes one structure. A launch of no blocks does nothing.
template <class Arguments>
int launch(const char* name, void (*kernel)(Arguments), dim3 blocks, int threads, int64_t shared_bytes,
           CudaStream stream, const Arguments& arguments) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return 0;
  if (shared_bytes > 48 * 1024) {
    const auto error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return report(name, error);
  }
  kernel<<<blocks, threads, static_cast<size_t>(shared_bytes), reinterpret_cast<cudaStream_t>(stream)>>>(arguments);
  return report(name, cudaGetLastError());
}

}  // namespace farsight::cuda

#endif
