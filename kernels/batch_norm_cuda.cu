// SPDX-License-Identifier: Apache-2.0
#include "kernels/batch_norm_cuda.h"
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/random_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int kColumns = 32;  // of a block: one warp reads a row of them
constexpr int kLines = 8;     // rows that are read at a time

struct ColumnStatistics {
  double mean, rstd;
};

__device__ double running_value(const CudaBatchStatistics& s, const void* values, int64_t column) {
  return static_cast<double>(s.running_type == DType::f32 ? static_cast<const float*>(values)[column]
                                                          : to_float(static_cast<const bf16*>(values)[column]));
}

__device__ ColumnStatistics statistics_of(const CudaBatchStatistics& s, int64_t column) {
  const bool running = s.totals == nullptr;
  const auto rows = static_cast<double>(s.all_rows);
  const double mean = running ? running_value(s, s.running_mean, column) : s.totals[column] / rows;
  const double var = running ? running_value(s, s.running_var, column) : s.squares[column] / rows;
  return {mean, 1.0 / sqrt(var + static_cast<double>(s.eps))};
}

// A thread's column and the rows begin, begin + kLines, ... of the block (x, y).
struct Place {
  int line;
  int64_t column, begin, end, rows;
  __device__ explicit Place(int64_t all_rows) {
    line = static_cast<int>(threadIdx.x) / kColumns;
    column = int64_t{blockIdx.x} * kColumns + static_cast<int>(threadIdx.x) % kColumns;
    const int64_t first = blockIdx.y * kCudaBatchNormRows;
    end = first + kCudaBatchNormRows < all_rows ? first + kCudaBatchNormRows : all_rows;
    begin = first + line;
    rows = end - first;
  }
};

// The sum over the threads of a column, in order; every thread gets it.
__device__ double sum_lines(double value, double (*lines)[kColumns]) {
  const int line = static_cast<int>(threadIdx.x) / kColumns, lane = static_cast<int>(threadIdx.x) % kColumns;
  __syncthreads();
  lines[line][lane] = value;
  __syncthreads();
  double sum = 0.0;
  for (int i = 0; i < kLines; ++i) sum += lines[i][lane];
  return sum;
}

template <class T>
__global__ void blocks_kernel(CudaBatchNormBlocks a) {
  __shared__ double lines[kLines][kColumns];
  const Place at(a.rows);
  const bool inside = at.column < a.cols;
  const T* input = static_cast<const T*>(a.residual);
  int64_t stride = a.residual_stride;
  if (a.x != nullptr) {
    for (int64_t r = at.begin; inside && r < at.end; r += kLines) {
      float x[1];
      load(static_cast<const T*>(a.x) + r * a.x_stride + at.column, x);
      if (a.dropout.keys != nullptr) drop(a.dropout, r, at.column, x);
      x[0] += to_float(input[r * stride + at.column]);
      store(static_cast<T*>(a.sum) + r * a.cols + at.column, x);
    }
    input = static_cast<const T*>(a.sum);  // each thread reads what it wrote
    stride = a.cols;
  }
  if (a.means == nullptr) return;
  double sum = 0.0, square = 0.0;
  for (int64_t r = at.begin; inside && r < at.end; r += kLines) {
    sum += static_cast<double>(to_float(input[r * stride + at.column]));
  }
  const double mean = sum_lines(sum, lines) / static_cast<double>(at.rows);
  for (int64_t r = at.begin; inside && r < at.end; r += kLines) {
    const double v = static_cast<double>(to_float(input[r * stride + at.column])) - mean;
    square += v * v;
  }
  square = sum_lines(square, lines);
  if (!inside || at.line != 0) return;
  a.means[blockIdx.y * a.cols + at.column] = mean;
  a.squares[blockIdx.y * a.cols + at.column] = square;
}

__global__ void join_kernel(CudaBatchNormJoin a) {
  for_elements<1>(1, a.cols, [&](int64_t, int64_t column) {
    double sum = 0.0;
    for (int64_t first = 0, at = column; first < a.rows; first += kCudaBatchNormRows, at += a.cols) {
      const int64_t left = a.rows - first;
      const auto rows = static_cast<double>(left < kCudaBatchNormRows ? left : kCudaBatchNormRows);
      if (a.totals == nullptr) {
        sum += rows * a.means[at];
      } else {
        const double distance = a.means[at] - a.totals[column] / static_cast<double>(a.all_rows);
        sum += a.squares[at] + rows * distance * distance;
      }
    }
    a.out[column] = sum;
  });
}

template <class T>
__global__ void forward_kernel(CudaBatchNormForward a) {
  for_elements<1>(a.rows, a.cols, [&](int64_t row, int64_t column) {
    const ColumnStatistics s = statistics_of(a.statistics, column);
    const double x = static_cast<double>(to_float(static_cast<const T*>(a.input)[row * a.input_stride + column]));
    const auto xhat = static_cast<float>((x - s.mean) * s.rstd);
    const float y =
        xhat * to_float(static_cast<const T*>(a.weight)[column]) + to_float(static_cast<const T*>(a.bias)[column]);
    static_cast<T*>(a.y)[row * a.cols + column] = from_float<T>(y);
  });
}

template <class T>
__global__ void sums_kernel(CudaBatchNormSums a) {
  __shared__ double lines[kLines][kColumns];
  const Place at(a.rows);
  const bool inside = at.column < a.cols;
  const ColumnStatistics s = statistics_of(a.statistics, inside ? at.column : 0);
  double sum = 0.0, product = 0.0;
  for (int64_t r = at.begin; inside && r < at.end; r += kLines) {
    const double dy = static_cast<double>(to_float(static_cast<const T*>(a.dy)[r * a.cols + at.column]));
    const double x = static_cast<double>(to_float(static_cast<const T*>(a.input)[r * a.input_stride + at.column]));
    sum += dy;
    product += dy * (x - s.mean) * s.rstd;
  }
  sum = sum_lines(sum, lines);
  product = sum_lines(product, lines);
  if (!inside || at.line != 0) return;
  a.partial[blockIdx.y * 2 * a.cols + at.column] = sum;
  a.partial[(blockIdx.y * 2 + 1) * a.cols + at.column] = product;
}

__global__ void join_sums_kernel(CudaBatchNormSums a) {
  for_elements<1>(1, 2 * a.cols, [&](int64_t, int64_t i) {
    double sum = 0.0;
    for (int64_t first = 0, at = i; first < a.rows; first += kCudaBatchNormRows, at += 2 * a.cols) sum += a.partial[at];
    a.sums[i] = sum;
  });
}

// d = weight rstd (dy - mean(dy) - xhat mean(dy xhat))
template <class T>
__global__ void backward_kernel(CudaBatchNormBackward a) {
  for_elements<1>(a.rows, a.cols, [&](int64_t row, int64_t column) {
    const ColumnStatistics s = statistics_of(a.statistics, column);
    const double x = static_cast<double>(to_float(static_cast<const T*>(a.input)[row * a.input_stride + column]));
    float d[1], x_part[1];
    load(static_cast<const T*>(a.dy) + row * a.cols + column, d);
    if (a.sums != nullptr) {
      const auto rows = static_cast<double>(a.statistics.all_rows);
      const double xhat = (x - s.mean) * s.rstd;
      d[0] -= static_cast<float>(a.sums[column] / rows + xhat * a.sums[a.cols + column] / rows);
    }
    d[0] *= to_float(static_cast<const T*>(a.weight)[column]) * static_cast<float>(s.rstd);
    x_part[0] = d[0];
    if (a.dresidual != nullptr) {
      accumulate(static_cast<T*>(a.dresidual) + row * a.dresidual_stride + column, d, a.add_residual);
    }
    if (a.dx == nullptr) return;
    if (a.dropout.keys != nullptr) drop(a.dropout, row, column, x_part);
    accumulate(static_cast<T*>(a.dx) + row * a.dx_stride + column, x_part, a.add_x);
  });
}

__global__ void scaled_kernel(CudaAddScaled a) {
  for_elements<1>(1, a.count, [&](int64_t, int64_t i) {
    float v[1] = {static_cast<float>(a.factor * a.from[i])};
    accumulate(a.to + i, v, a.add);
  });
}

dim3 block_grid(int64_t rows, int64_t cols) {
  return dim3(static_cast<unsigned>(ceil_div(cols, kColumns)),
              static_cast<unsigned>(ceil_div(rows, kCudaBatchNormRows)));
}

}  // namespace

int batch_norm_blocks(const CudaBatchNormBlocks* a, CudaStream stream) {
  return with_type("batch_norm", a->type, [&](auto element) {
    return launch("batch_norm", blocks_kernel<decltype(element)>, block_grid(a->rows, a->cols), kColumns * kLines, 0,
                  stream, *a);
  });
}

int batch_norm_join(const CudaBatchNormJoin* a, CudaStream stream) {
  return launch("batch_norm", join_kernel, element_blocks(1, a->cols, 1), kElementThreads, 0, stream, *a);
}

int batch_norm_forward(const CudaBatchNormForward* a, CudaStream stream) {
  return with_type("batch_norm", a->type, [&](auto element) {
    return launch("batch_norm", forward_kernel<decltype(element)>, element_blocks(a->rows, a->cols, 1), kElementThreads,
                  0, stream, *a);
  });
}

int batch_norm_sums(const CudaBatchNormSums* a, CudaStream stream) {
  const int status = with_type("batch_norm backward", a->type, [&](auto element) {
    return launch("batch_norm backward", sums_kernel<decltype(element)>, block_grid(a->rows, a->cols),
                  kColumns * kLines, 0, stream, *a);
  });
  if (status != 0) return status;
  return launch("batch_norm backward", join_sums_kernel, element_blocks(1, 2 * a->cols, 1), kElementThreads, 0, stream,
                *a);
}

int batch_norm_backward(const CudaBatchNormBackward* a, CudaStream stream) {
  return with_type("batch_norm backward", a->type, [&](auto element) {
    return launch("batch_norm backward", backward_kernel<decltype(element)>, element_blocks(a->rows, a->cols, 1),
                  kElementThreads, 0, stream, *a);
  });
}

int add_scaled(const CudaAddScaled* a, CudaStream stream) {
  return launch("add_scaled", scaled_kernel, element_blocks(1, a->count, 1), kElementThreads, 0, stream, *a);
}

}  // namespace farsight::cuda
