// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross_entropy_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/reduce_cuda.h"
#include "kernels/cuda/vector_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int kThreads = 256;  // of the block that works on a row

// body(column, values) over the columns of this block's row that are not padding.
template <class T, int N, class Body>
__device__ void for_columns(const CudaLogits& a, const T* row, const Body& body) {
  for (int64_t c = int64_t{threadIdx.x} * N; c < a.columns; c += kThreads * N) {
    if (c + N <= a.columns) {
      float v[N];
      load(row + c, v);
      body(c, v);
    } else {
      for (int64_t i = c; i < a.columns; ++i) {
        float v[1] = {to_float(row[i])};
        body(i, v);
      }
    }
  }
}

template <class T, int N>
__global__ void maxima_kernel(CudaLogitMaxima a) {
  __shared__ float scratch[32];
  float largest = -INFINITY;
  for_columns<T, N>(a.logits, static_cast<const T*>(a.logits.z) + blockIdx.x * a.logits.width,
                    [&](int64_t, const auto& v) {
                      for (const float x : v) largest = max_or_nan(largest, x);
                    });
  largest = block_max(largest, scratch);
  if (threadIdx.x == 0) a.largest[blockIdx.x] = largest;
}

// Threads add up to 2^10 terms in fp32 before they meet in fp64.
template <class T, int N>
__global__ void sums_kernel(CudaLogitSums a) {
  __shared__ double scratch[32];
  const T* row = static_cast<const T*>(a.logits.z) + blockIdx.x * a.logits.width;
  const float m = a.largest[blockIdx.x];
  float exponentials = 0.0F, shifted = 0.0F;
  for_columns<T, N>(a.logits, row, [&](int64_t, const auto& v) {
    for (const float x : v) {
      exponentials += expf(x - m);
      shifted += x - m;
    }
  });
  const double e = block_sum(static_cast<double>(exponentials), scratch);
  const double s = block_sum(static_cast<double>(shifted), scratch);
  if (threadIdx.x != 0) return;
  const int64_t label = a.logits.labels[blockIdx.x], column = label - a.logits.first;
  const bool own = label >= 0 && column >= 0 && column < a.logits.columns;
  double* to = a.sums + 3 * int64_t{blockIdx.x};
  to[0] = e;
  to[1] = own ? static_cast<double>(to_float(row[column])) - static_cast<double>(m) : 0.0;
  to[2] = s;
}

__global__ void losses_kernel(CudaLogitLosses a) {
  __shared__ double scratch[32];
  double loss = 0.0, nll = 0.0;
  for (int64_t r = threadIdx.x; r < a.logits.rows; r += kThreads) {
    const bool valid = a.logits.labels[r] >= 0;
    const double* sums = a.sums + 3 * r;
    const double lse = log(sums[0]);
    const double own = valid ? lse - sums[1] : 0.0;
    if (a.row_nll != nullptr) a.row_nll[r] = own;
    if (!valid) continue;
    // (1 - e) nll + e mean_v(-log p_v)
    const double uniform = lse - sums[2] / static_cast<double>(a.logits.vocabulary);
    nll += own;
    loss += a.smoothing == 0.0 ? own : (1.0 - a.smoothing) * own + a.smoothing * uniform;
  }
  loss = block_sum(loss, scratch);
  nll = block_sum(nll, scratch);
  if (threadIdx.x != 0) return;
  a.totals[0] += loss;
  a.totals[1] += nll;
  *a.loss = static_cast<float>(a.scale * a.totals[0]);
}

template <class T, int N>
__global__ void gradients_kernel(CudaLogitGradients a) {
  const CudaLogits& l = a.logits;
  T* row = static_cast<T*>(l.z) + blockIdx.x * l.width;
  const int64_t label = l.labels[blockIdx.x];
  const int64_t column = label < 0 ? -1 : label - l.first;
  const int64_t columns = label < 0 ? 0 : l.columns;
  const float m = a.largest[blockIdx.x];
  const auto factor = static_cast<float>(a.scale / a.sums[3 * int64_t{blockIdx.x}]);
  const auto offset = static_cast<float>(a.scale * a.smoothing / static_cast<double>(l.vocabulary));
  const auto target = static_cast<float>(a.scale * (1.0 - a.smoothing));
  for (int64_t c = int64_t{threadIdx.x} * N; c < l.width; c += kThreads * N) {
    float v[N];
    load(row + c, v);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (c + i >= columns) {
        v[i] = 0.0F;
      } else {
        v[i] = factor * expf(v[i] - m) - offset - (c + i == column ? target : 0.0F);
      }
    }
    store(row + c, v);
  }
}

// start(type, pack width) with one block per row.
template <class Start>
int for_logits(const char* what, const CudaLogits& logits, const Start& start) {
  return with_type(what, logits.type, [&](auto element) {
    using T = decltype(element);
    return with_width<T>(packable<T>(logits.z, logits.width), [&](auto n) { return start(element, n); });
  });
}

dim3 rows(const CudaLogits& logits) { return dim3(static_cast<unsigned>(logits.rows)); }

}  // namespace

int logit_maxima(const CudaLogitMaxima* a, CudaStream stream) {
  return for_logits("logit_maxima", a->logits, [&](auto element, auto n) {
    return launch("logit_maxima", maxima_kernel<decltype(element), n.value>, rows(a->logits), kThreads, 0, stream, *a);
  });
}

int logit_sums(const CudaLogitSums* a, CudaStream stream) {
  return for_logits("logit_sums", a->logits, [&](auto element, auto n) {
    return launch("logit_sums", sums_kernel<decltype(element), n.value>, rows(a->logits), kThreads, 0, stream, *a);
  });
}

int logit_losses(const CudaLogitLosses* a, CudaStream stream) {
  return launch("logit_losses", losses_kernel, dim3(1), kThreads, 0, stream, *a);
}

int logit_gradients(const CudaLogitGradients* a, CudaStream stream) {
  return for_logits("logit_gradients", a->logits, [&](auto element, auto n) {
    return launch("logit_gradients", gradients_kernel<decltype(element), n.value>, rows(a->logits), kThreads, 0, stream,
                  *a);
  });
}

}  // namespace farsight::cuda
