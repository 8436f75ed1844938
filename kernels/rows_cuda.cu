// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/rows_cuda.h"

namespace farsight::cuda {
namespace {

template <class From, class To, int N>
__global__ void copy_kernel(CudaRowsCopy a) {
  for_elements<N>(a.rows, a.cols, [&](int64_t row, int64_t column) {
    float v[N];
    load(static_cast<const From*>(a.from) + row * a.from_stride + column, v);
    accumulate(static_cast<To*>(a.to) + row * a.to_stride + column, v, a.add);
  });
}

template <class T>
__global__ void fill_kernel(CudaFill a) {
  for_elements<1>(1, a.count, [&](int64_t, int64_t column) { static_cast<T*>(a.to)[column] = from_float<T>(a.value); });
}

template <class From, class To>
int copy(const CudaRowsCopy& a, CudaStream stream) {
  constexpr int kWide = std::min(kPack<From>, kPack<To>);
  const bool packed = a.cols % kWide == 0 && packable<From>(a.from, a.from_stride) && packable<To>(a.to, a.to_stride);
  const auto start = [&](auto kernel, int n) {
    return launch("copy_rows", kernel, element_blocks(a.rows, a.cols, n), kElementThreads, 0, stream, a);
  };
  return packed ? start(copy_kernel<From, To, kWide>, kWide) : start(copy_kernel<From, To, 1>, 1);
}

}  // namespace

int copy_rows(const CudaRowsCopy* a, CudaStream stream) {
  return with_type("copy_rows", a->from_type, [&](auto from) {
    return with_type("copy_rows", a->to_type, [&](auto to) { return copy<decltype(from), decltype(to)>(*a, stream); });
  });
}

int fill(const CudaFill* a, CudaStream stream) {
  return with_type("fill", a->type, [&](auto element) {
    return launch("fill", fill_kernel<decltype(element)>, element_blocks(1, a->count, 1), kElementThreads, 0, stream,
                  *a);
  });
}

}  // namespace farsight::cuda
