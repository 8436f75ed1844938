// SPDX-License-Identifier: Apache-2.0
// Loops over all elements of a matrix, several per thread. Bound by memory: a grid of a few waves that strides.
#pragma once

#include <algorithm>

#include "kernels/cuda/vector_cuda.h"

namespace farsight::cuda {

inline constexpr int kElementThreads = 256;
inline constexpr int64_t kElementBlocks = 132 * 16;

// body(row, column) for every N columns of a matrix.
template <int N, class Body>
__device__ void for_elements(int64_t rows, int64_t cols, const Body& body) {
  const int64_t packs = cols / N;
  const int64_t all = rows * packs;
  const int64_t step = int64_t{gridDim.x} * kElementThreads;
  for (int64_t i = blockIdx.x * int64_t{kElementThreads} + threadIdx.x; i < all; i += step)
    body(i / packs, i % packs * N);
}

inline dim3 element_blocks(int64_t rows, int64_t cols, int n) {
  return dim3(static_cast<unsigned>(std::min(kElementBlocks, ceil_div(rows * (cols / n), kElementThreads))));
}

}  // namespace farsight::cuda
