// SPDX-License-Identifier: Apache-2.0
// attention_merge: one warp for each query and head.
#include "kernels/attention/block_cuda.h"
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"

namespace farsight::cuda {
namespace {

template <class T>
__global__ void merge_kernel(CudaAttentionMerge a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warps = int64_t{gridDim.x} * kElementThreads / 32;
  for (int64_t row = (blockIdx.x * int64_t{kElementThreads} + threadIdx.x) / 32; row < a.batch * a.rows * a.heads;
       row += warps) {
    const int64_t token = row / a.heads, head = row % a.heads, sample = token / a.rows, t = token % a.rows;
    const int64_t at = (sample * a.heads + head) * a.tokens + a.first + t;
    const float lse = a.lse[(sample * a.heads + head) * a.rows + t];
    if (lse == -INFINITY) continue;
    const float m = a.m[at], top = fmaxf(m, lse);
    const float old = m == -INFINITY ? 0.0F : expf(m - top), fresh = expf(lse - top);
    const T* out = static_cast<const T*>(a.out) + token * a.out_stride + head * a.value_width;
    float* o = a.o + ((sample * a.tokens + a.first + t) * a.heads + head) * a.value_width;
    for (int64_t c = lane; c < a.value_width; c += 32) o[c] = o[c] * old + to_float(out[c]) * fresh;
    __syncwarp();  // every lane has read m
    if (lane != 0) continue;
    a.l[at] = a.l[at] * old + fresh;
    a.m[at] = top;
  }
}

}  // namespace

int attention_merge(const CudaAttentionMerge* a, CudaStream stream) {
  return with_type("attention_merge", a->type, [&](auto element) {
    return launch("attention_merge", merge_kernel<decltype(element)>,
                  element_blocks(a->batch * a->rows * a->heads, 32, 1), kElementThreads, 0, stream, *a);
  });
}

}  // namespace farsight::cuda
