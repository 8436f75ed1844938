// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/swiglu_cuda.h"

namespace farsight::cuda {
namespace {

__device__ float sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }

template <class T, int N>
__global__ void forward_kernel(CudaSwigluForward a) {
  for_elements<N>(a.rows, a.cols, [&](int64_t row, int64_t column) {
    float gate[N], up[N];
    const T* from = static_cast<const T*>(a.gate_up) + row * a.stride + column;
    load(from, gate);
    load(from + a.cols, up);
#pragma unroll
    for (int i = 0; i < N; ++i) up[i] *= gate[i] * sigmoid(gate[i]);
    store(static_cast<T*>(a.y) + row * a.cols + column, up);
  });
}

// dup = dy a s;  dgate = dy up s (1 + a (1 - s)),  s = sigmoid(a).
template <class T, int N>
__global__ void backward_kernel(CudaSwigluBackward a) {
  for_elements<N>(a.rows, a.cols, [&](int64_t row, int64_t column) {
    float gate[N], up[N], dy[N];
    const T* from = static_cast<const T*>(a.gate_up) + row * a.stride + column;
    load(from, gate);
    load(from + a.cols, up);
    load(static_cast<const T*>(a.dy) + row * a.cols + column, dy);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float s = sigmoid(gate[i]);
      const float dys = dy[i] * s;
      const float dgate = dys * up[i] * (1.0F + gate[i] * (1.0F - s));
      up[i] = dys * gate[i];
      gate[i] = dgate;
    }
    T* to = static_cast<T*>(a.d_gate_up) + row * a.d_stride + column;
    accumulate(to, gate, a.add);
    accumulate(to + a.cols, up, a.add);
  });
}

}  // namespace

int swiglu_forward(const CudaSwigluForward* a, CudaStream stream) {
  return with_type("swiglu", a->type, [&](auto element) {
    using T = decltype(element);
    const bool packed = packable<T>(a->gate_up, a->stride) && packable<T>(a->y, a->cols);
    return with_width<T>(packed, [&](auto n) {
      return launch("swiglu", forward_kernel<T, n.value>, element_blocks(a->rows, a->cols, n.value), kElementThreads, 0,
                    stream, *a);
    });
  });
}

int swiglu_backward(const CudaSwigluBackward* a, CudaStream stream) {
  return with_type("swiglu backward", a->type, [&](auto element) {
    using T = decltype(element);
    const bool packed =
        packable<T>(a->gate_up, a->stride) && packable<T>(a->dy, a->cols) && packable<T>(a->d_gate_up, a->d_stride);
    return with_width<T>(packed, [&](auto n) {
      return launch("swiglu backward", backward_kernel<T, n.value>, element_blocks(a->rows, a->cols, n.value),
                    kElementThreads, 0, stream, *a);
    });
  });
}

}  // namespace farsight::cuda
