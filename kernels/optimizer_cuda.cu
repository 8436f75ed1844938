// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/vector_cuda.h"
#include "kernels/optimizer_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int kThreads = 256;

// The range of this block's chunk: the last one that does not begin behind it.
__device__ CudaOptimizerRange find_range(const CudaOptimizerSlabs& s, int64_t chunk) {
  int64_t low = 0, high = s.ranges;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (s.range[middle].first_chunk <= chunk) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return s.range[low];
}

// One element: values and moments are read and written through references.
__device__ void update(const AdamWFactors& f, float gradient, float& value, float& m, float& v) {
  const float g = gradient * f.gradient_scale;
  m = f.beta1 * m + f.one_minus_beta1 * g;
  v = f.beta2 * v + f.one_minus_beta2 * (g * g);
  value = value * f.keep - f.step_size * m / (sqrtf(v) * f.root + f.eps);
}

__device__ void update(const SgdFactors& f, float gradient, float& value, float& momentum, float&) {
  momentum = f.momentum * momentum + f.gradient_scale * gradient;
  value = value * f.keep - f.rate * momentum;
}

template <int N, class Factors>
__device__ void update_chunk(const CudaOptimizerSlabs& s, const Factors& f, int64_t begin, int64_t count) {
  for (int64_t i = int64_t{threadIdx.x} * N; i < count; i += kThreads * N) {
    const int64_t at = begin + i;
    float gradient[N], value[N], first[N] = {}, second[N] = {};
    load(s.gradients + at, gradient);
    load(s.values + at, value);
    if (s.first != nullptr) load(s.first + at, first);
    if (s.second != nullptr) load(s.second + at, second);
#pragma unroll
    for (int j = 0; j < N; ++j) update(f, gradient[j], value[j], first[j], second[j]);
    store(s.values + at, value);
    if (s.first != nullptr) store(s.first + at, first);
    if (s.second != nullptr) store(s.second + at, second);
    if (s.rounded != nullptr) store(reinterpret_cast<bf16*>(s.rounded) + at, value);
  }
}

template <class Arguments>
__global__ void optimizer_kernel(Arguments a) {
  const int64_t chunk = blockIdx.x;
  const CudaOptimizerRange range = find_range(a.slabs, chunk);
  const int64_t offset = (chunk - range.first_chunk) * kCudaChunk;
  const int64_t begin = range.begin + offset;
  const int64_t count = range.count - offset < kCudaChunk ? range.count - offset : kCudaChunk;
  auto factors = a.groups[range.group];
  if (a.slabs.gate != nullptr) factors.gradient_scale = *a.slabs.gate;
  if (factors.gradient_scale != factors.gradient_scale) return;  // NaN: no update
  if (begin % 4 == 0 && count % 4 == 0) {
    update_chunk<4>(a.slabs, factors, begin, count);
  } else {
    update_chunk<1>(a.slabs, factors, begin, count);
  }
}

dim3 chunks(const CudaOptimizerSlabs& s) { return dim3(static_cast<unsigned>(s.chunks)); }

}  // namespace

int adamw(const CudaAdamW* a, CudaStream stream) {
  return launch("adamw", optimizer_kernel<CudaAdamW>, chunks(a->slabs), kThreads, 0, stream, *a);
}

int sgd(const CudaSgd* a, CudaStream stream) {
  return launch("sgd", optimizer_kernel<CudaSgd>, chunks(a->slabs), kThreads, 0, stream, *a);
}

}  // namespace farsight::cuda
