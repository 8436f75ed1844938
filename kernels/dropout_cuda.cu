// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/dropout_cuda.h"
#include "kernels/random_cuda.h"

namespace farsight::cuda {
namespace {

template <class T, int N>
__global__ void dropout_kernel(CudaDropoutRows a) {
  for_elements<N>(a.rows, a.cols, [&](int64_t row, int64_t column) {
    float v[N];
    load(static_cast<const T*>(a.x) + row * a.x_stride + column, v);
    drop(a.dropout, row, column, v);
    accumulate(static_cast<T*>(a.y) + row * a.y_stride + column, v, a.add);
  });
}

}  // namespace

int dropout_rows(const CudaDropoutRows* a, CudaStream stream) {
  return with_type("dropout_rows", a->type, [&](auto element) {
    using T = decltype(element);
    const bool packed = a->cols % kPack<T> == 0 && packable<T>(a->x, a->x_stride) && packable<T>(a->y, a->y_stride);
    return with_width<T>(packed, [&](auto n) {
      return launch("dropout_rows", dropout_kernel<T, n.value>, element_blocks(a->rows, a->cols, n.value),
                    kElementThreads, 0, stream, *a);
    });
  });
}

}  // namespace farsight::cuda
