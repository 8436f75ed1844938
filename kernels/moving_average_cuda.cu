// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/moving_average_cuda.h"

namespace farsight::cuda {
namespace {

__device__ int64_t inside(int64_t at, int64_t length) { return at < 0 ? 0 : (at < length ? at : length - 1); }

// How often position `at` occurs in the window around `centre` of the extended series.
__device__ float occurrences(const CudaMovingAverage& a, int64_t centre, int64_t at) {
  const int64_t half = a.kernel / 2;
  const int64_t low = at == 0 ? -half : at;
  const int64_t high = at == a.length - 1 ? a.length - 1 + half : at;
  const int64_t first = low > centre - half ? low : centre - half;
  const int64_t last = high < centre + half ? high : centre + half;
  return last < first ? 0.0F : static_cast<float>(last - first + 1);
}

template <class T>
__global__ void average_kernel(CudaMovingAverage a) {
  const int64_t half = a.kernel / 2;
  for_elements<1>(a.rows, a.length, [&](int64_t row, int64_t at) {
    const T* from = static_cast<const T*>(a.from) + row * a.from_stride;
    float sum[1] = {0.0F};
    if (a.backward) {
      for (int64_t t = inside(at - half, a.length); t <= inside(at + half, a.length); ++t) {
        sum[0] += to_float(from[t]) * occurrences(a, t, at);
      }
    } else {
      for (int64_t t = at - half; t <= at + half; ++t) sum[0] += to_float(from[inside(t, a.length)]);
    }
    sum[0] /= static_cast<float>(a.kernel);
    accumulate(static_cast<T*>(a.to) + row * a.to_stride + at, sum, a.add);
  });
}

}  // namespace

int moving_average(const CudaMovingAverage* a, CudaStream stream) {
  return with_type("moving_average", a->type, [&](auto element) {
    return launch("moving_average", average_kernel<decltype(element)>, element_blocks(a->rows, a->length, 1),
                  kElementThreads, 0, stream, *a);
  });
}

}  // namespace farsight::cuda
