// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/rope_cuda.h"

namespace farsight::cuda {
namespace {

// fp64: an angle of position 1e6 in fp32 is off by 0.06.
__global__ void table_kernel(CudaRopeTable a) {
  for_elements<1>(a.rows, a.half, [&](int64_t row, int64_t i) {
    double sine = 0.0, cosine = 0.0;
    sincos(static_cast<double>(a.positions[row]) * a.frequency[i], &sine, &cosine);
    a.cosine[row * a.half + i] = static_cast<float>(cosine);
    a.sine[row * a.half + i] = static_cast<float>(sine);
  });
}

template <class T, int N>
__global__ void rotate_kernel(CudaRopeRows a) {
  const float sign = a.inverse ? -1.0F : 1.0F;
  for_elements<N>(a.rows, a.heads * a.half, [&](int64_t row, int64_t column) {
    const int64_t head = column / a.half, i = column % a.half;
    T* low = static_cast<T*>(a.x) + row * a.stride + head * 2 * a.half + i;
    float c[N], s[N], x[N], y[N];
    load(a.cosine + row * a.half + i, c);
    load(a.sine + row * a.half + i, s);
    load(low, x);
    load(low + a.half, y);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float turned = x[j] * c[j] - y[j] * s[j] * sign;
      y[j] = y[j] * c[j] + x[j] * s[j] * sign;
      x[j] = turned;
    }
    store(low, x);
    store(low + a.half, y);
  });
}

}  // namespace

int rope_table(const CudaRopeTable* a, CudaStream stream) {
  return launch("rope_table", table_kernel, element_blocks(a->rows, a->half, 1), kElementThreads, 0, stream, *a);
}

int rope_rows(const CudaRopeRows* a, CudaStream stream) {
  return with_type("rope", a->type, [&](auto element) {
    using T = decltype(element);
    const bool packed = a->half % kPack<T> == 0 && packable<T>(a->x, a->stride);
    return with_width<T>(packed, [&](auto n) {
      return launch("rope", rotate_kernel<T, n.value>, element_blocks(a->rows, a->heads * a->half, n.value),
                    kElementThreads, 0, stream, *a);
    });
  });
}

}  // namespace farsight::cuda
