// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/reduce_cuda.h"
#include "kernels/cuda/vector_cuda.h"
#define FARSIGHT_TERM __device__ inline
#include "kernels/forecast_loss_cuda.h"
#include "kernels/forecast_terms-inl.h"

namespace farsight::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 256;

template <class T>
__device__ double at_or(const T* values, int64_t i, double missing) {
  return values == nullptr ? missing : static_cast<double>(to_float(values[i]));
}

// A warp takes a row.
template <class T>
__global__ void rows_kernel(CudaForecastLoss a) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int outputs = a.terms.outputs;
  for (int64_t row = blockIdx.x * int64_t{kWarps} + warp; row < a.rows; row += int64_t{gridDim.x} * kWarps) {
    const int64_t channel = row % a.channels;
    const double gamma = at_or(static_cast<const T*>(a.gamma), channel, 1.0);
    const forecast::Undo undo{at_or(a.mean, row, 0.0), at_or(a.std, row, 1.0) / gamma,
                              at_or(static_cast<const T*>(a.beta), channel, 0.0)};
    forecast::RowSums s;
    for (int64_t h = lane; h < a.horizon; h += 32) {
      const T* head = static_cast<const T*>(a.head) + row * a.head_stride + h * outputs;
      T* dhead = a.dhead == nullptr ? nullptr : static_cast<T*>(a.dhead) + (row * a.horizon + h) * outputs;
      const auto write = [&](int k, double derivative) {
        if (dhead != nullptr) dhead[k] = from_float<T>(static_cast<float>(a.scale * derivative));
      };
      const auto read = [&](int k) { return static_cast<double>(to_float(head[k])); };
      const int64_t at = row * a.horizon + h;
      if (a.observed != nullptr && a.observed[at] == 0) {
        for (int k = 0; k < outputs; ++k) write(k, 0.0);
      } else {
        forecast::with_kind(a.terms.kind, [&](auto kind) {
          forecast::element_of<kind.value>(a.terms, undo, static_cast<double>(a.targets[at]), dhead != nullptr, read,
                                           write, s);
        });
      }
    }
    const double loss = warp_sum(s.loss), square = warp_sum(s.square), absolute = warp_sum(s.absolute);
    const double location = warp_sum(s.location), raw = warp_sum(s.raw_location), width = warp_sum(s.log_width);
    if (lane != 0) continue;
    a.row_sums[3 * row] = loss;
    a.row_sums[3 * row + 1] = square;
    a.row_sums[3 * row + 2] = absolute;
    if (a.dgamma == nullptr) continue;
    // d slope / d gamma = -slope / gamma, d log width / d gamma = -1 / gamma, d location / d beta = -slope.
    a.dgamma[row] = static_cast<float>(-a.scale * (undo.slope * (raw - undo.beta * location) + width) / gamma);
    a.dbeta[row] = static_cast<float>(-a.scale * undo.slope * location);
  }
}

__global__ void sums_kernel(CudaForecastLoss a) {
  __shared__ double scratch[32];
  for (int i = 0; i < 3; ++i) {
    double sum = 0.0;
    for (int64_t r = threadIdx.x; r < a.rows; r += kThreads) sum += a.row_sums[3 * r + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x != 0) continue;
    a.sums[i] = sum;
    if (i == 0) *a.loss = static_cast<float>(a.scale * sum);
  }
}

}  // namespace

int forecast_loss(const CudaForecastLoss* a, CudaStream stream) {
  const dim3 blocks(static_cast<unsigned>(std::min<int64_t>(ceil_div(a->rows, kWarps), 8192)));
  const int status = with_type("forecast_loss", a->type, [&](auto element) {
    return launch("forecast_loss", rows_kernel<decltype(element)>, blocks, 32 * kWarps, 0, stream, *a);
  });
  return status != 0 ? status : launch("forecast_loss", sums_kernel, dim3(1), kThreads, 0, stream, *a);
}

}  // namespace farsight::cuda
