// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/embedding_cuda.h"
#include "kernels/random_cuda.h"

namespace farsight::cuda {
namespace {

template <class T, int N>
__global__ void gather_kernel(CudaGatherRows a) {
  for_elements<N>(a.rows, a.cols, [&](int64_t row, int64_t column) {
    float v[N] = {};
    const int64_t id = a.ids == nullptr ? row : a.ids[row];
    if (id >= 0) {
      load(static_cast<const T*>(a.table) + id * a.cols + column, v);
      if (a.positional != nullptr) {
        float p[N];
        load(static_cast<const T*>(a.positional) + a.position_ids[row] * a.cols + column, p);
#pragma unroll
        for (int i = 0; i < N; ++i) v[i] += p[i];
      }
      if (a.dropout.keys != nullptr) drop(a.dropout, row, column, v);
    }
    store(static_cast<T*>(a.y) + row * a.cols + column, v);
  });
}

// A pack of columns of one target is one thread's: rows that meet in a target are added in order.
template <class T, int N>
__global__ void scatter_kernel(CudaScatterRows a) {
  for_elements<N>(a.targets, a.cols, [&](int64_t target, int64_t column) {
    float* to = a.gradient + a.target[target] * a.cols + column;
    float sum[N];
    load(to, sum);
#pragma unroll 4
    for (int32_t i = a.start[target]; i < a.start[target + 1]; ++i) {
      const int64_t row = a.order[i];
      float v[N];
      load(static_cast<const T*>(a.dy) + row * a.stride + column, v);
      if (a.dropout.keys != nullptr) drop(a.dropout, row, column, v);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += v[j];
    }
    store(to, sum);
  });
}

}  // namespace

int gather_rows(const CudaGatherRows* a, CudaStream stream) {
  return with_type("embedding", a->type, [&](auto element) {
    using T = decltype(element);
    const bool packed =
        a->cols % kPack<T> == 0 && packable<T>(a->table, 0) && packable<T>(a->positional, 0) && packable<T>(a->y, 0);
    return with_width<T>(packed, [&](auto n) {
      return launch("embedding", gather_kernel<T, n.value>, element_blocks(a->rows, a->cols, n.value), kElementThreads,
                    0, stream, *a);
    });
  });
}

int scatter_rows(const CudaScatterRows* a, CudaStream stream) {
  return with_type("embedding backward", a->type, [&](auto element) {
    using T = decltype(element);
    const bool packed = a->cols % kPack<T> == 0 && packable<T>(a->dy, a->stride) && packable<float>(a->gradient, 0);
    return with_width<T>(packed, [&](auto n) {
      return launch("embedding backward", scatter_kernel<T, n.value>, element_blocks(a->targets, a->cols, n.value),
                    kElementThreads, 0, stream, *a);
    });
  });
}

}  // namespace farsight::cuda
