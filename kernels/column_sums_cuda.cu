// SPDX-License-Identifier: Apache-2.0
#include "kernels/column_sums_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/vector_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int kColumns = 32;  // of a block: one warp reads a row of them
constexpr int kLines = 16;    // rows that are read at a time

// Block (x, y): columns [32 x, ...) of rows [block_rows y, ...). Each of kLines warps sums every kLines-th row, then
// the first one adds the warps in order.
template <class T>
__global__ void sum_kernel(CudaColumnSums a) {
  __shared__ float lines[kLines][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kColumns, line = static_cast<int>(threadIdx.x) / kColumns;
  const int64_t column = int64_t{blockIdx.x} * kColumns + lane;
  const int64_t begin = blockIdx.y * a.block_rows;
  const int64_t end = begin + a.block_rows < a.rows ? begin + a.block_rows : a.rows;
  float sum = 0.0F;
  if (column < a.cols) {
    const T* in = static_cast<const T*>(a.in) + column;
#pragma unroll 8
    for (int64_t r = begin + line; r < end; r += kLines) sum += to_float(in[r * a.stride]);
  }
  lines[line][lane] = sum;
  __syncthreads();
  if (line != 0 || column >= a.cols) return;
  for (int i = 1; i < kLines; ++i) sum += lines[i][lane];
  float* to = a.out + blockIdx.y * a.cols + column;
  *to = a.add ? *to + sum : sum;
}

}  // namespace

int column_sums(const CudaColumnSums* a, CudaStream stream) {
  const auto start = [&](auto element, const CudaColumnSums& part) {
    const dim3 blocks(static_cast<unsigned>(ceil_div(part.cols, kColumns)),
                      static_cast<unsigned>(ceil_div(part.rows, part.block_rows)));
    return launch("column_sums", sum_kernel<decltype(element)>, blocks, kColumns * kLines, 0, stream, part);
  };
  return with_type("column_sums", a->type, [&](auto element) {
    const int64_t blocks = ceil_div(a->rows, a->block_rows);
    if (blocks <= 1) return start(element, *a);
    CudaColumnSums first = *a;
    first.out = a->partial;
    first.add = false;
    if (const int status = start(element, first)) return status;
    CudaColumnSums second = *a;
    second.type = DType::f32;
    second.rows = second.block_rows = blocks;
    second.in = a->partial;
    second.stride = a->cols;
    return start(float(), second);
  });
}

}  // namespace farsight::cuda
