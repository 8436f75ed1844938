// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/scaled_sum_cuda.h"

namespace farsight::cuda {
namespace {

template <class T, int N>
__global__ void scaled_sum_kernel(CudaScaledSum s) {
  for_elements<N>(s.rows, s.cols, [&](int64_t row, int64_t column) {
    float a[N], b[N];
    load(static_cast<const T*>(s.b) + row * s.b_stride + column, b);
    if (s.a != nullptr) load(static_cast<const T*>(s.a) + row * s.a_stride + column, a);
#pragma unroll
    for (int i = 0; i < N; ++i) b[i] = s.a != nullptr ? a[i] + s.factor * b[i] : s.factor * b[i];
    accumulate(static_cast<T*>(s.y) + row * s.y_stride + column, b, s.add);
  });
}

}  // namespace

int scaled_sum(const CudaScaledSum* s, CudaStream stream) {
  return with_type("scaled_sum", s->type, [&](auto element) {
    using T = decltype(element);
    const bool packed = s->cols % kPack<T> == 0 && packable<T>(s->a, s->a_stride) && packable<T>(s->b, s->b_stride) &&
                        packable<T>(s->y, s->y_stride);
    return with_width<T>(packed, [&](auto n) {
      return launch("scaled_sum", scaled_sum_kernel<T, n.value>, element_blocks(s->rows, s->cols, n.value),
                    kElementThreads, 0, stream, *s);
    });
  });
}

}  // namespace farsight::cuda
