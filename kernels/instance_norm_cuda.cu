// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/reduce_cuda.h"
#include "kernels/cuda/vector_cuda.h"
#include "kernels/instance_norm_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int kWarps = 4;

// body(row, lane): one warp takes a row.
template <class Body>
__device__ void for_warp_rows(int64_t rows, const Body& body) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int64_t row = blockIdx.x * int64_t{kWarps} + warp; row < rows; row += int64_t{gridDim.x} * kWarps) {
    body(row, lane);
  }
}

dim3 row_blocks(int64_t rows) { return dim3(static_cast<unsigned>(std::min<int64_t>(ceil_div(rows, kWarps), 8192))); }

template <class T>
__device__ double parameter(const void* values, int64_t channel, double missing) {
  return values == nullptr ? missing : static_cast<double>(to_float(static_cast<const T*>(values)[channel]));
}

// The last element that counts, 0 where there is none; found by the lane that has it.
template <class Counts>
__device__ double last_value(const float* x, int64_t length, int lane, const Counts& counts) {
  int64_t last = -1;
  for (int64_t i = lane; i < length; i += 32) last = counts(i) ? i : last;
  double best = static_cast<double>(last);  // exact below 2^53
  for (int step = 16; step > 0; step /= 2) best = fmax(best, __shfl_xor_sync(0xffffffffU, best, step));
  return best < 0.0 ? 0.0 : static_cast<double>(x[static_cast<int64_t>(best)]);
}

template <class T>
__global__ void forward_kernel(CudaInstanceNormForward a) {
  for_warp_rows(a.rows, [&](int64_t row, int lane) {
    const float* x = a.x + row * a.x_stride;
    const uint8_t* observed = a.observed == nullptr ? nullptr : a.observed + row * a.length;
    const auto counts = [&](int64_t i) { return observed == nullptr || observed[i] != 0; };
    double sum = 0.0, count = 0.0, squares = 0.0;
    for (int64_t i = lane; i < a.length; i += 32) {
      sum += counts(i) ? static_cast<double>(x[i]) : 0.0;
      count += counts(i) ? 1.0 : 0.0;
    }
    count = warp_sum(count);
    double mean = warp_sum(sum) / (count > 0.0 ? count : 1.0);
    if (a.last) mean = last_value(x, a.length, lane, counts);
    for (int64_t i = lane; i < a.length; i += 32) {
      const double c = counts(i) ? static_cast<double>(x[i]) - mean : 0.0;
      squares += c * c;
    }
    squares = warp_sum(squares);
    const double std = count > 0.0 && !a.last ? sqrt(squares / count + static_cast<double>(a.eps)) : 1.0;
    if (lane == 0) {
      a.mean[row] = static_cast<float>(mean);
      a.std[row] = static_cast<float>(std);
      a.statistics[2 * row] = mean;
      a.statistics[2 * row + 1] = 1.0 / std;
    }
    const double factor = parameter<T>(a.gamma, row % a.channels, 1.0) / std;
    const double offset = parameter<T>(a.beta, row % a.channels, 0.0);
    for (int64_t i = lane; i < a.length; i += 32) {
      const double y = counts(i) ? (static_cast<double>(x[i]) - mean) * factor + offset : 0.0;
      static_cast<T*>(a.y)[row * a.length + i] = from_float<T>(static_cast<float>(y));
    }
  });
}

template <class T>
__global__ void backward_kernel(CudaInstanceNormBackward a) {
  for_warp_rows(a.rows, [&](int64_t row, int lane) {
    const float* x = a.x + row * a.x_stride;
    const T* dy = static_cast<const T*>(a.dy) + row * a.length;
    const uint8_t* observed = a.observed == nullptr ? nullptr : a.observed + row * a.length;
    const double mean = a.statistics[2 * row], rstd = a.statistics[2 * row + 1];
    const auto factor = static_cast<float>(parameter<T>(a.gamma, row % a.channels, 1.0) * rstd);
    double gamma = 0.0, beta = 0.0;
    for (int64_t i = lane; i < a.length; i += 32) {
      const bool counts = observed == nullptr || observed[i] != 0;
      const float d = counts ? to_float(dy[i]) : 0.0F;
      gamma += counts ? static_cast<double>(d) * (static_cast<double>(x[i]) - mean) * rstd : 0.0;
      beta += static_cast<double>(d);
      float dx[1] = {d * factor};
      if (a.dx != nullptr) accumulate(a.dx + row * a.dx_stride + i, dx, a.add);
    }
    if (a.dgamma == nullptr) return;
    gamma = warp_sum(gamma);
    beta = warp_sum(beta);
    if (lane != 0) return;
    a.dgamma[row] = static_cast<float>(gamma);
    a.dbeta[row] = static_cast<float>(beta);
  });
}

}  // namespace

int instance_norm_forward(const CudaInstanceNormForward* a, CudaStream stream) {
  return with_type("instance_norm", a->type, [&](auto element) {
    return launch("instance_norm", forward_kernel<decltype(element)>, row_blocks(a->rows), 32 * kWarps, 0, stream, *a);
  });
}

int instance_norm_backward(const CudaInstanceNormBackward* a, CudaStream stream) {
  return with_type("instance_norm backward", a->type, [&](auto element) {
    return launch("instance_norm backward", backward_kernel<decltype(element)>, row_blocks(a->rows), 32 * kWarps, 0,
                  stream, *a);
  });
}

}  // namespace farsight::cuda
