// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/patches_cuda.h"

namespace farsight::cuda {
namespace {

template <class T>
__global__ void forward_kernel(CudaPatchesForward a) {
  for_elements<1>(a.rows * a.count, a.patch, [&](int64_t patch, int64_t i) {
    const int64_t at = patch % a.count * a.stride + i;
    const int64_t from = at < a.length ? at : a.length - 1;
    static_cast<T*>(a.y)[patch * a.patch + i] = static_cast<const T*>(a.x)[patch / a.count * a.x_stride + from];
  });
}

// The sum of what the patches of a row hold of the position `at` of the extended series.
template <class T>
__device__ float sum_of_patches(const CudaPatchesBackward& a, const T* dy, int64_t at) {
  const int64_t first = at < a.patch ? 0 : (at - a.patch) / a.stride + 1;
  float sum = 0.0F;
  for (int64_t n = first; n < a.count && n * a.stride <= at; ++n) {
    sum += to_float(dy[n * a.patch + at - n * a.stride]);
  }
  return sum;
}

// A thread gathers for one value; the last one stands also for its copies.
template <class T>
__global__ void backward_kernel(CudaPatchesBackward a) {
  for_elements<1>(a.rows, a.length, [&](int64_t row, int64_t column) {
    const T* dy = static_cast<const T*>(a.dy) + row * a.count * a.patch;
    const int64_t covered = (a.count - 1) * a.stride + a.patch;
    float sum[1] = {sum_of_patches(a, dy, column)};
    if (column == a.length - 1) {
      for (int64_t at = a.length; at < covered; ++at) sum[0] += sum_of_patches(a, dy, at);
    }
    accumulate(static_cast<T*>(a.dx) + row * a.dx_stride + column, sum, a.add);
  });
}

}  // namespace

int patches_forward(const CudaPatchesForward* a, CudaStream stream) {
  return with_type("patches", a->type, [&](auto element) {
    return launch("patches", forward_kernel<decltype(element)>, element_blocks(a->rows * a->count, a->patch, 1),
                  kElementThreads, 0, stream, *a);
  });
}

int patches_backward(const CudaPatchesBackward* a, CudaStream stream) {
  return with_type("patches backward", a->type, [&](auto element) {
    return launch("patches backward", backward_kernel<decltype(element)>, element_blocks(a->rows, a->length, 1),
                  kElementThreads, 0, stream, *a);
  });
}

}  // namespace farsight::cuda
