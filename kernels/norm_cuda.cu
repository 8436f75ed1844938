// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "kernels/cuda/reduce_cuda.h"
#include "kernels/norm_cuda.h"
#include "kernels/random_cuda.h"

namespace farsight::cuda {
namespace {

constexpr int64_t kWarpWidth = 1024;  // wider groups are normalised by a whole block
constexpr int kWarpTeams = 4;
constexpr int kBlockThreads = 256;

// The threads that work on one group: a warp, or with kBlock the whole block.
template <bool kBlock>
struct Team {
  int lane, lanes, index, count;
  float* scratch;
  __device__ explicit Team(float* shared) : scratch(shared) {
    lanes = kBlock ? static_cast<int>(blockDim.x) : 32;
    lane = static_cast<int>(threadIdx.x) % lanes;
    index = static_cast<int>(threadIdx.x) / lanes;
    count = static_cast<int>(blockDim.x) / lanes;
  }
  __device__ float sum(float value) const { return kBlock ? block_sum(value, scratch) : warp_sum(value); }
};

// Threads of a block and rows of shared memory, one per team.
struct Launch {
  bool block;
  int threads;
  int64_t teams;
  explicit Launch(int64_t width)
      : block(width > kWarpWidth), threads(block ? kBlockThreads : 32 * kWarpTeams), teams(block ? 1 : kWarpTeams) {}
};

template <class T, int N, bool kBlock>
__global__ void forward_kernel(CudaNormForward a) {
  __shared__ float scratch[32];
  const Team<kBlock> team(scratch);
  float* cache = dynamic_shared<float>() + team.index * a.width;  // each thread reads back only what it wrote
  const int64_t units = a.rows * a.groups;
  const auto n = static_cast<float>(a.width);
  for (int64_t unit = blockIdx.x * int64_t{team.count} + team.index; unit < units;
       unit += int64_t{gridDim.x} * team.count) {
    const int64_t row = unit / a.groups, first = unit % a.groups * a.width;
    const int64_t at = row * a.groups * a.width + first;
    float sum = 0.0F;
    for (int64_t c = int64_t{team.lane} * N; c < a.width; c += int64_t{team.lanes} * N) {
      float v[N];
      load(static_cast<const T*>(a.residual) + row * a.residual_stride + first + c, v);
      if (a.x != nullptr) {
        float x[N];
        load(static_cast<const T*>(a.x) + row * a.x_stride + first + c, x);
        if (a.dropout.keys != nullptr) drop(a.dropout, row, first + c, x);
#pragma unroll
        for (int i = 0; i < N; ++i) v[i] = to_float(from_float<T>(v[i] + x[i]));
        store(static_cast<T*>(a.sum) + at + c, v);
      }
      store(cache + c, v);
#pragma unroll
      for (int i = 0; i < N; ++i) sum += v[i];
    }
    const float mean = a.centred ? team.sum(sum) / n : 0.0F;
    float square = 0.0F;
    for (int64_t c = int64_t{team.lane} * N; c < a.width; c += int64_t{team.lanes} * N) {
      float v[N];
      load(cache + c, v);
#pragma unroll
      for (int i = 0; i < N; ++i) square += (v[i] - mean) * (v[i] - mean);
    }
    const float rstd = 1.0F / sqrtf(team.sum(square) / n + a.eps);
    if (team.lane == 0) {
      a.rstd[unit] = rstd;
      if (a.centred) a.mean[unit] = mean;
    }
    for (int64_t c = int64_t{team.lane} * N; c < a.width; c += int64_t{team.lanes} * N) {
      float v[N], w[N];
      load(cache + c, v);
      load(static_cast<const T*>(a.weight) + c, w);
#pragma unroll
      for (int i = 0; i < N; ++i) v[i] = (v[i] - mean) * rstd * w[i];
      if (a.bias != nullptr) {
        load(static_cast<const T*>(a.bias) + c, w);
#pragma unroll
        for (int i = 0; i < N; ++i) v[i] += w[i];
      }
      store(static_cast<T*>(a.y) + at + c, v);
    }
  }
}

// One group: the two row sums, and its terms of the weight gradients.
template <class T, int N, bool kBlock>
__device__ void gradient_sums(const CudaNormBackward& a, const Team<kBlock>& team, const T* dy, const T* input,
                              float mean, float rstd, float* dweight, float* dbias, float& sum, float& sum_x) {
  const T* weight = static_cast<const T*>(a.weight);
  for (int64_t c = int64_t{team.lane} * N; c < a.width; c += int64_t{team.lanes} * N) {
    float d[N], x[N], w[N], dw[N];
    load(dy + c, d);
    load(input + c, x);
    load(weight + c, w);
    load(dweight + c, dw);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float xhat = (x[i] - mean) * rstd;
      sum += d[i] * w[i];
      sum_x += d[i] * w[i] * xhat;
      dw[i] += d[i] * xhat;
    }
    store(dweight + c, dw);
    if (dbias == nullptr) continue;
    load(dbias + c, dw);
#pragma unroll
    for (int i = 0; i < N; ++i) dw[i] += d[i];
    store(dbias + c, dw);
  }
  sum = a.centred ? team.sum(sum) / static_cast<float>(a.width) : 0.0F;
  sum_x = team.sum(sum_x) / static_cast<float>(a.width);
}

// d = rstd (dy w - mean(dy w) - xhat mean(dy w xhat)) + dsum
template <class T, int N, bool kBlock>
__device__ void gradient_rows(const CudaNormBackward& a, const Team<kBlock>& team, int64_t row, int64_t first,
                              float mean, float rstd, float sum, float sum_x) {
  const int64_t at = row * a.groups * a.width + first;
  for (int64_t c = int64_t{team.lane} * N; c < a.width; c += int64_t{team.lanes} * N) {
    float d[N], x[N], w[N];
    load(static_cast<const T*>(a.dy) + at + c, d);
    load(static_cast<const T*>(a.input) + row * a.input_stride + first + c, x);
    load(static_cast<const T*>(a.weight) + c, w);
#pragma unroll
    for (int i = 0; i < N; ++i) d[i] = rstd * (d[i] * w[i] - sum - (x[i] - mean) * rstd * sum_x);
    if (a.dsum != nullptr) {
      load(static_cast<const T*>(a.dsum) + at + c, x);
#pragma unroll
      for (int i = 0; i < N; ++i) d[i] += x[i];
    }
    if (a.dresidual != nullptr) {
#pragma unroll
      for (int i = 0; i < N; ++i) x[i] = d[i];
      accumulate(static_cast<T*>(a.dresidual) + row * a.dresidual_stride + first + c, x, a.add_residual);
    }
    if (a.dx == nullptr) continue;
    if (a.dropout.keys != nullptr) drop(a.dropout, row, first + c, d);
    accumulate(static_cast<T*>(a.dx) + row * a.dx_stride + first + c, d, a.add_x);
  }
}

// A block takes kCudaNormRows rows; each team sums the weight gradients of its own groups, and at the end the teams are
// added in order.
template <class T, int N, bool kBlock>
__global__ void backward_kernel(CudaNormBackward a) {
  __shared__ float scratch[32];
  const Team<kBlock> team(scratch);
  float* sums = dynamic_shared<float>();  // [team][weight, bias][width]
  const int64_t kinds = a.dbias == nullptr ? 1 : 2;
  for (int64_t i = threadIdx.x; i < team.count * kinds * a.width; i += blockDim.x) sums[i] = 0.0F;
  __syncthreads();
  float* dweight = sums + team.index * kinds * a.width;
  float* dbias = a.dbias == nullptr ? nullptr : dweight + a.width;
  const int64_t begin = blockIdx.x * kCudaNormRows * a.groups;
  const int64_t last = (blockIdx.x + 1) * kCudaNormRows;
  const int64_t end = (last < a.rows ? last : a.rows) * a.groups;
  for (int64_t unit = begin + team.index; unit < end; unit += team.count) {
    const int64_t row = unit / a.groups, first = unit % a.groups * a.width;
    const float mean = a.centred ? a.mean[unit] : 0.0F, rstd = a.rstd[unit];
    float sum = 0.0F, sum_x = 0.0F;
    gradient_sums<T, N>(a, team, static_cast<const T*>(a.dy) + row * a.groups * a.width + first,
                        static_cast<const T*>(a.input) + row * a.input_stride + first, mean, rstd, dweight, dbias, sum,
                        sum_x);
    gradient_rows<T, N>(a, team, row, first, mean, rstd, sum, sum_x);
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < kinds * a.width; i += blockDim.x) {
    float total = 0.0F;
    for (int t = 0; t < team.count; ++t) total += sums[t * kinds * a.width + i];
    float* to = i < a.width ? a.dweight : a.dbias;
    to[blockIdx.x * a.width + i % a.width] = total;
  }
}

template <class T>
bool packed_rows(const CudaNormForward& a) {
  return a.width % kPack<T> == 0 && packable<T>(a.x, a.x_stride) && packable<T>(a.residual, a.residual_stride) &&
         packable<T>(a.sum, a.width) && packable<T>(a.weight, 0) && packable<T>(a.bias, 0) && packable<T>(a.y, a.width);
}

template <class T>
bool packed_rows(const CudaNormBackward& a) {
  return a.width % kPack<T> == 0 && packable<T>(a.dy, a.width) && packable<T>(a.input, a.input_stride) &&
         packable<T>(a.weight, 0) && packable<T>(a.dsum, a.width) && packable<T>(a.dresidual, a.dresidual_stride) &&
         packable<T>(a.dx, a.dx_stride);
}

}  // namespace

int norm_forward(const CudaNormForward* a, CudaStream stream) {
  const Launch shape(a->width);
  const int64_t shared = shape.teams * a->width * static_cast<int64_t>(sizeof(float));
  const dim3 blocks(static_cast<unsigned>(std::min(kElementBlocks, ceil_div(a->rows * a->groups, shape.teams))));
  return with_type("norm", a->type, [&](auto element) {
    using T = decltype(element);
    return with_width<T>(packed_rows<T>(*a), [&](auto n) {
      const auto kernel = shape.block ? forward_kernel<T, n.value, true> : forward_kernel<T, n.value, false>;
      return launch("norm", kernel, blocks, shape.threads, shared, stream, *a);
    });
  });
}

int norm_backward(const CudaNormBackward* a, CudaStream stream) {
  const Launch shape(a->width);
  const int64_t kinds = a->dbias == nullptr ? 1 : 2;
  const int64_t shared = shape.teams * kinds * a->width * static_cast<int64_t>(sizeof(float));
  const dim3 blocks(static_cast<unsigned>(ceil_div(a->rows, kCudaNormRows)));
  return with_type("norm backward", a->type, [&](auto element) {
    using T = decltype(element);
    return with_width<T>(packed_rows<T>(*a), [&](auto n) {
      const auto kernel = shape.block ? backward_kernel<T, n.value, true> : backward_kernel<T, n.value, false>;
      return launch("norm backward", kernel, blocks, shape.threads, shared, stream, *a);
    });
  });
}

}  // namespace farsight::cuda
