// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/reduce_cuda.h"
#include "kernels/cuda/vector_cuda.h"
#include "kernels/dense_attention_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kChunk = 8;  // coordinates that a lane sums at a time

// A warp takes a row: a query in the first kernels, a key in the last. Its line of shared memory holds one number for
// each key.
struct Row {
  int lane;
  float* line;
  __device__ explicit Row(int64_t keys) {
    lane = static_cast<int>(threadIdx.x) % 32;
    line = dynamic_shared<float>() + static_cast<int>(threadIdx.x) / 32 * keys;
  }
};

// body(row, head, sample, token): rows count through the tokens of each head of each sample.
template <class Body>
__device__ void for_rows(int64_t batch, int64_t heads, int64_t tokens, const Body& body) {
  const int64_t rows = batch * heads * tokens;
  for (int64_t row = blockIdx.x * int64_t{kWarps} + static_cast<int>(threadIdx.x) / 32; row < rows;
       row += int64_t{gridDim.x} * kWarps) {
    const int64_t head = row / tokens;
    body(row, head % heads, head / heads, row % tokens);
  }
}

template <class T>
__device__ float dot(const T* a, const T* b, int64_t width) {
  float sum = 0.0F;
  for (int64_t d = 0; d < width; ++d) sum += to_float(a[d]) * to_float(b[d]);
  return sum;
}

// to[d] (+)= factor * sum_j line[j] * table[j][d]
template <class T>
__device__ void weighted_rows(const Row& at, const T* table, int64_t stride, int64_t keys, int64_t width, float factor,
                              bool add, T* to) {
  for (int64_t first = 0; first < width; first += kChunk) {
    float sums[kChunk] = {};
    for (int64_t j = at.lane; j < keys; j += 32) {
      const float weight = at.line[j];
#pragma unroll
      for (int c = 0; c < kChunk; ++c) {
        if (first + c < width) sums[c] += weight * to_float(table[j * stride + first + c]);
      }
    }
#pragma unroll
    for (int c = 0; c < kChunk; ++c) {
      float value[1] = {factor * warp_sum(sums[c])};
      if (at.lane == 0 && first + c < width) accumulate(to + first + c, value, add);
    }
  }
}

template <class T>
__global__ void forward_kernel(CudaDenseAttention a) {
  const Row at(a.keys);
  for_rows(a.batch, a.heads, a.queries, [&](int64_t row, int64_t head, int64_t sample, int64_t token) {
    const int64_t column = head * a.width;
    const T* q = static_cast<const T*>(a.q) + (sample * a.queries + token) * a.q_stride + column;
    const T* k = static_cast<const T*>(a.k) + sample * a.keys * a.k_stride + column;
    const T* v = static_cast<const T*>(a.v) + sample * a.keys * a.v_stride + column;
    float largest = -INFINITY, sum = 0.0F;
    for (int64_t j = at.lane; j < a.keys; j += 32) {
      float s = a.scale * dot(q, k + j * a.k_stride, a.width);
      if (a.previous != nullptr) s += a.previous[row * a.keys + j];
      if (a.scores != nullptr) a.scores[row * a.keys + j] = s;
      at.line[j] = s;
      largest = max_or_nan(s, largest);
    }
    largest = warp_max(largest);
    for (int64_t j = at.lane; j < a.keys; j += 32) {
      const float e = expf(at.line[j] - largest);
      at.line[j] = e;
      sum += e;
    }
    const float reciprocal = 1.0F / warp_sum(sum);
    if (at.lane == 0) {
      a.statistics[2 * row] = largest;
      a.statistics[2 * row + 1] = reciprocal;
    }
    T* out = static_cast<T*>(a.out) + (sample * a.queries + token) * a.heads * a.width + column;
    weighted_rows(at, v, a.v_stride, a.keys, a.width, reciprocal, /*add=*/false, out);
  });
}

// Gradients of the scores, and of the queries.
template <class T>
__global__ void queries_kernel(CudaDenseAttentionBackward a) {
  const Row at(a.keys);
  for_rows(a.batch, a.heads, a.queries, [&](int64_t row, int64_t head, int64_t sample, int64_t token) {
    const int64_t column = head * a.width;
    const T* k = static_cast<const T*>(a.k) + sample * a.keys * a.k_stride + column;
    const T* v = static_cast<const T*>(a.v) + sample * a.keys * a.v_stride + column;
    const T* dout = static_cast<const T*>(a.dout) + (sample * a.queries + token) * a.heads * a.width + column;
    const float largest = a.statistics[2 * row], reciprocal = a.statistics[2 * row + 1];
    float mean = 0.0F;
    for (int64_t j = at.lane; j < a.keys; j += 32) {
      const float p = expf(a.scores[row * a.keys + j] - largest) * reciprocal;
      at.line[j] = dot(dout, v + j * a.v_stride, a.width);
      mean += p * at.line[j];
    }
    mean = warp_sum(mean);
    for (int64_t j = at.lane; j < a.keys; j += 32) {
      const float p = expf(a.scores[row * a.keys + j] - largest) * reciprocal;
      float d = p * (at.line[j] - mean);
      if (a.dscores != nullptr) d += a.dscores[row * a.keys + j];
      at.line[j] = d;
      a.gradients[row * a.keys + j] = d;
    }
    if (a.dq == nullptr) return;
    T* dq = static_cast<T*>(a.dq) + (sample * a.queries + token) * a.dq_stride + column;
    weighted_rows(at, k, a.k_stride, a.keys, a.width, a.scale, a.add_q, dq);
  });
}

// Gradients of keys and values: a warp sums over the queries of its key.
template <class T>
__global__ void keys_kernel(CudaDenseAttentionBackward a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for_rows(a.batch, a.heads, a.keys, [&](int64_t, int64_t head, int64_t sample, int64_t key) {
    const int64_t column = head * a.width, first = (sample * a.heads + head) * a.queries;
    const T* q = static_cast<const T*>(a.q) + sample * a.queries * a.q_stride + column;
    const T* dout = static_cast<const T*>(a.dout) + sample * a.queries * a.heads * a.width + column;
    const int64_t token = sample * a.keys + key;
    for (int64_t d = 0; d < a.width; d += kChunk) {
      float sums_k[kChunk] = {}, sums_v[kChunk] = {};
      for (int64_t i = lane; i < a.queries; i += 32) {
        const int64_t pair = (first + i) * a.keys + key;
        const float p = expf(a.scores[pair] - a.statistics[2 * (first + i)]) * a.statistics[2 * (first + i) + 1];
        const float g = a.gradients[pair];
#pragma unroll
        for (int c = 0; c < kChunk; ++c) {
          if (d + c >= a.width) continue;
          sums_k[c] += g * to_float(q[i * a.q_stride + d + c]);
          sums_v[c] += p * to_float(dout[i * a.heads * a.width + d + c]);
        }
      }
#pragma unroll
      for (int c = 0; c < kChunk; ++c) {
        float dk[1] = {a.scale * warp_sum(sums_k[c])}, dv[1] = {warp_sum(sums_v[c])};
        if (lane != 0 || d + c >= a.width) continue;
        const int64_t at = column + d + c;
        if (a.dk != nullptr) accumulate(static_cast<T*>(a.dk) + token * a.dk_stride + at, dk, a.add_k);
        if (a.dv != nullptr) accumulate(static_cast<T*>(a.dv) + token * a.dv_stride + at, dv, a.add_v);
      }
    }
  });
}

dim3 row_blocks(int64_t rows) { return dim3(static_cast<unsigned>(std::min<int64_t>(ceil_div(rows, kWarps), 16384))); }

}  // namespace

int dense_attention_forward(const CudaDenseAttention* a, CudaStream stream) {
  const int64_t shared = kWarps * a->keys * static_cast<int64_t>(sizeof(float));
  return with_type("dense_attention", a->type, [&](auto element) {
    return launch("dense_attention", forward_kernel<decltype(element)>, row_blocks(a->batch * a->heads * a->queries),
                  32 * kWarps, shared, stream, *a);
  });
}

int dense_attention_backward(const CudaDenseAttentionBackward* a, CudaStream stream) {
  const int64_t shared = kWarps * a->keys * static_cast<int64_t>(sizeof(float));
  return with_type("dense_attention backward", a->type, [&](auto element) {
    using T = decltype(element);
    const int status = launch("dense_attention backward", queries_kernel<T>,
                              row_blocks(a->batch * a->heads * a->queries), 32 * kWarps, shared, stream, *a);
    if (status != 0 || (a->dk == nullptr && a->dv == nullptr)) return status;
    return launch("dense_attention backward", keys_kernel<T>, row_blocks(a->batch * a->heads * a->keys), 32 * kWarps, 0,
                  stream, *a);
  });
}

}  // namespace farsight::cuda
