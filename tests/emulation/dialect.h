// SPDX-License-Identifier: Apache-2.0
// What kernels/cuda/dialect_cuda.h offers, for the emulator: included first in every source of the emulated plugin.
#pragma once

#define FARSIGHT_CUDA_DIALECT

#include <cmath>
#include <cstdint>
#include <functional>

#include "kernels/bfloat16.h"
#include "kernels/cuda/backend.h"
#include "tests/emulation/emulator.h"
#include "tests/emulation/streams.h"

// The keywords of CUDA C++.
#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local  // the threads of a block are fibers of one thread
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define threadIdx (::farsight::emulation::thread_index())
#define blockIdx (::farsight::emulation::block_index())
#define blockDim (::farsight::emulation::block_extent())
#define gridDim (::farsight::emulation::grid_extent())
#define __syncthreads() ::farsight::emulation::sync_block()

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

inline void __syncwarp() { farsight::emulation::sync_warp(); }
template <class T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  return farsight::emulation::shuffle(value, farsight::emulation::lane_index() ^ distance);
}
template <class T>
T __shfl_sync(unsigned, T value, int source) {
  return farsight::emulation::shuffle(value, source);
}
inline unsigned __ballot_sync(unsigned, bool yes) { return farsight::emulation::ballot(yes); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }

namespace farsight::cuda {

struct bf16 {
  uint16_t bits;
};
inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return bf16_to_float(x.bits); }
template <class T>
T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
template <>
inline bf16 from_float<bf16>(float x) {
  return {float_to_bf16(x)};
}

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulation::shared_memory());
}

int failed(int status, const char* what, const char* why);

template <class Arguments>
int launch(const char* name, void (*kernel)(Arguments), dim3 blocks, int threads, int64_t shared_bytes,
           CudaStream stream, const Arguments& arguments) {
  return emulation::enqueue(stream, [=] {
    emulation::run_grid(name, {blocks.x, blocks.y, blocks.z}, threads, shared_bytes, [&] { kernel(arguments); });
  });
}

// kernels/cuda/mma_cuda.h, by its definition.
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void load_matrices(uint32_t (&r)[4], const bf16* row);
void load_matrices_transposed(uint32_t (&r)[4], const bf16* row);
inline uint32_t pack_bf16(float low, float high) {
  return static_cast<uint32_t>(float_to_bf16(low)) | static_cast<uint32_t>(float_to_bf16(high)) << 16;
}
// Copies arrive when they are waited for and no earlier.
void copy_async(void* to_shared, const void* from, bool valid);
void commit_copies();
void wait_copies(int pending);
template <int kPending>
void wait_copies() {
  wait_copies(kPending);
}

}  // namespace farsight::cuda
