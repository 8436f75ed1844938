// SPDX-License-Identifier: Apache-2.0
// Elements in registers as fp32, whatever their type in memory; loads and stores of up to 16 bytes at once.
#pragma once

#include <cstdint>

#include "kernels/cuda/dialect_cuda.h"
#include "kernels/dtype.h"

namespace farsight::cuda {

// Elements of T that one access moves.
template <class T>
inline constexpr int kPack = 16 / static_cast<int>(sizeof(T));

template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) VectorPack {
  T v[N];
};

template <class T, int N>
__device__ void load(const T* from, float (&to)[N]) {
  const auto pack = *reinterpret_cast<const VectorPack<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = to_float(pack.v[i]);
}

template <class T, int N>
__device__ void store(T* to, const float (&from)[N]) {
  VectorPack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.v[i] = from_float<T>(from[i]);
  *reinterpret_cast<VectorPack<T, N>*>(to) = pack;
}

// to = from, or to += from.
template <class T, int N>
__device__ void accumulate(T* to, float (&from)[N], bool add) {
  if (add) {
    float old[N];
    load(to, old);
#pragma unroll
    for (int i = 0; i < N; ++i) from[i] += old[i];
  }
  store(to, from);
}

__host__ __device__ inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Whether rows of T that start at `data`, `stride` apart, can be read in packs; null data always can.
template <class T>
bool packable(const void* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % kPack<T> == 0;
}

// body(T()) for the type of activations: f32 or bf16.
template <class Body>
int with_type(const char* what, DType type, const Body& body) {
  if (type == DType::f32) return body(float());
  if (type == DType::bf16) return body(bf16());
  return failed(1, what, "the type of the elements is neither f32 nor bf16");
}

// body(std::integral_constant) of the pack width: all or one element at a time.
template <int N>
struct Width {
  static constexpr int value = N;
};
template <class T, class Body>
int with_width(bool packed, const Body& body) {
  return packed ? body(Width<kPack<T>>()) : body(Width<1>());
}

}  // namespace farsight::cuda
