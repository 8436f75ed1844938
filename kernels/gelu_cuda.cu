// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/gelu_cuda.h"

namespace farsight::cuda {
namespace {

// (1 + tanh(z)) / 2 = sigmoid(2z), so one exponential does both; 2z = x (a + b x^2).
constexpr float kA = 1.5957691216057308F;  // 2 sqrt(2 / pi)
constexpr float kB = 0.0713548162726009F;  // 0.044715 a

__device__ float sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }

__device__ float gelu(float x) { return x * sigmoid(x * (kA + kB * x * x)); }

// dy/dx = s + x s (1 - s) (a + 3 b x^2).
__device__ float gelu_slope(float x) {
  const float s = sigmoid(x * (kA + kB * x * x));
  return s * (1.0F + (1.0F - s) * x * (kA + 3.0F * kB * x * x));
}

template <class T, int N>
__global__ void forward_kernel(CudaGeluForward a) {
  for_elements<N>(a.rows, a.cols, [&](int64_t row, int64_t column) {
    float v[N];
    load(static_cast<const T*>(a.x) + row * a.x_stride + column, v);
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = gelu(v[i]);
    store(static_cast<T*>(a.y) + row * a.cols + column, v);
  });
}

template <class T, int N>
__global__ void backward_kernel(CudaGeluBackward a) {
  for_elements<N>(a.rows, a.cols, [&](int64_t row, int64_t column) {
    float v[N], dy[N];
    load(static_cast<const T*>(a.x) + row * a.x_stride + column, v);
    load(static_cast<const T*>(a.dy) + row * a.cols + column, dy);
#pragma unroll
    for (int i = 0; i < N; ++i) dy[i] *= gelu_slope(v[i]);
    accumulate(static_cast<T*>(a.dx) + row * a.dx_stride + column, dy, a.add);
  });
}

}  // namespace

int gelu_forward(const CudaGeluForward* a, CudaStream stream) {
  return with_type("gelu", a->type, [&](auto element) {
    using T = decltype(element);
    const bool packed = a->cols % kPack<T> == 0 && packable<T>(a->x, a->x_stride) && packable<T>(a->y, a->cols);
    return with_width<T>(packed, [&](auto n) {
      return launch("gelu", forward_kernel<T, n.value>, element_blocks(a->rows, a->cols, n.value), kElementThreads, 0,
                    stream, *a);
    });
  });
}

int gelu_backward(const CudaGeluBackward* a, CudaStream stream) {
  return with_type("gelu backward", a->type, [&](auto element) {
    using T = decltype(element);
    const bool packed = a->cols % kPack<T> == 0 && packable<T>(a->x, a->x_stride) && packable<T>(a->dy, a->cols) &&
                        packable<T>(a->dx, a->dx_stride);
    return with_width<T>(packed, [&](auto n) {
      return launch("gelu backward", backward_kernel<T, n.value>, element_blocks(a->rows, a->cols, n.value),
                    kElementThreads, 0, stream, *a);
    });
  });
}

}  // namespace farsight::cuda
