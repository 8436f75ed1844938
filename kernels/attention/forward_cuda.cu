// SPDX-License-Identifier: Apache-2.0
// Forward tiles of attention on the device: a block takes some queries of one head, goes through all key tiles that it
// can see, and merges them into the row state in registers. Source: Dao 2023 (arXiv:2307.08691).
#include "kernels/attention/tile_cuda.h"
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"

namespace farsight::cuda {
namespace {

enum class Score : int { dot, dot_general, additive };  // general: ALiBi, dropout or entropy

template <class T, int kWidth>
struct ForwardShared {
  static constexpr int kRows = 16 * TileShape<T>::kWarps, kColumns = TileShape<T>::kColumns;
  static constexpr int kStride = kTileStride<T, kWidth>;
  T q[kRows * kStride];
  T k[2][kColumns * kStride];
  T v[2][kColumns * kStride];
  ColumnPlaces<kColumns> places[2];
  float scratch[TileShape<T>::kWarps][16 * (kColumns + 1)];
  float y[kWidth];
  TileSearch<Side::queries, kColumns> search;
};

// The rows of one thread: two of its warp's sixteen.
struct RowState {
  float m[2], l[2], u[2];
};

template <class T, int kWidth, Score kScore>
struct Forward {
  using Shared = ForwardShared<T, kWidth>;
  static constexpr int kRows = Shared::kRows, kColumns = Shared::kColumns;
  static constexpr int kTiles = kColumns / 8;

  const CudaAttentionForward& f;
  const CudaAttention& a;
  Shared& shared;
  int64_t b, h, first;  // sample, head, first query of the block
  Place rows[2];
  bool inside[2];
  RowState state;
  float o[kWidth / 8][4];

  __device__ Forward(const CudaAttentionForward& arguments, Shared& memory)
      : f(arguments), a(arguments.a), shared(memory), b(blockIdx.z), h(blockIdx.y) {
    // The last queries first: under a causal mask they see most.
    first = int64_t{gridDim.x - 1 - blockIdx.x} * kRows;
  }

  __device__ int64_t query(int half) const {
    return first + static_cast<int64_t>(threadIdx.x) / 32 * 16 + lane_group() + 8 * half;
  }
  __device__ int64_t statistic(int half) const { return (b * a.heads + h) * a.q_tokens + query(half); }

  __device__ void load_keys(int64_t tile, int buffer) {
    const int64_t kv_head = h / (a.heads / a.kv_heads);
    const int64_t at = tile * kColumns;
    load_tile<T, kWidth>(tile_source<T>(a.k, b, a.k_tokens, a.k_stride, kv_head, a.width), at, kColumns,
                         shared.k[buffer]);
    load_tile<T, kWidth>(tile_source<T>(a.v, b, a.k_tokens, a.v_stride, kv_head, a.value_width), at, kColumns,
                         shared.v[buffer]);
    load_places(a.k_positions, a.k_documents, b, a.k_tokens, at, shared.places[buffer]);
    commit_copies();
  }

  __device__ void load_state() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      inside[half] = query(half) < a.q_tokens;
      const int64_t at = b * a.q_tokens + query(half);
      rows[half] = {inside[half] ? a.q_positions[at] : 0,
                    inside[half] && a.q_documents != nullptr ? a.q_documents[at] : 0};
      const bool read = !f.fresh && inside[half];
      state.m[half] = read ? f.m[statistic(half)] : -INFINITY;
      // Sums are kept per lane until the end: what was there belongs to the first one.
      const bool mine = read && lane_place() == 0;
      state.l[half] = mine ? f.l[statistic(half)] : 0.0F;
      state.u[half] = mine && a.entropy ? f.u[statistic(half)] : 0.0F;
    }
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool read = !f.fresh && inside[i / 2] && result_column(n, i) < a.value_width;
        o[n][i] = read ? f.o[output(i / 2) + result_column(n, i)] : 0.0F;
      }
    }
  }
  __device__ int64_t output(int half) const { return ((b * a.q_tokens + query(half)) * a.heads + h) * a.value_width; }

  // Scores of the pairs of this thread, masked ones -inf.
  __device__ void scores(float (&s)[kTiles][4], int buffer, int64_t tile, bool masked) {
    const T* own = shared.q + static_cast<int>(threadIdx.x) / 32 * 16 * Shared::kStride;
    if constexpr (kScore == Score::additive) {
      additive_scores<T, kWidth>(s, own, shared.k[buffer], shared.y, a.width);
    } else {
      Products<T, kWidth>::nt(s, own, shared.k[buffer]);
    }
    const int64_t keys = a.k_tokens - tile * kColumns;
    const float slope = kScore != Score::dot && a.slopes != nullptr ? a.slopes[h] : 0.0F;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = result_column(n, i);
        if constexpr (kScore != Score::additive) s[n][i] *= a.scale;
        if (kScore == Score::dot && !masked) continue;
        const Place key = shared.places[buffer].place[column];
        if (slope != 0.0F) {
          s[n][i] -= slope * fabsf(static_cast<float>(int64_t{rows[i / 2].position} - key.position));
        }
        if (masked && (column >= keys || !visible(a, rows[i / 2], key))) s[n][i] = -INFINITY;
      }
    }
  }

  // Moves the state to the largest score of the tile and turns scores into weights.
  __device__ void weigh(float (&s)[kTiles][4], int buffer) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float m = state.m[half];
#pragma unroll
      for (int n = 0; n < kTiles; ++n) m = max_or_nan(m, max_or_nan(s[n][2 * half], s[n][2 * half + 1]));
      m = row_max(m);
      const bool nothing = m == -INFINITY;  // has been visible so far
      const float shift = state.m[half] == -INFINITY ? 0.0F : state.m[half] - m;
      const float factor = state.m[half] == -INFINITY ? 0.0F : exponential<T>(shift);
      if (kScore != Score::dot && a.entropy) state.u[half] = factor * (state.u[half] + state.l[half] * shift);
      state.l[half] *= factor;
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        o[n][2 * half] *= factor;
        o[n][2 * half + 1] *= factor;
      }
      state.m[half] = m;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& weight = s[n][2 * half + j];
          const float x = weight - m;
          weight = nothing ? 0.0F : exponential<T>(x);
          state.l[half] += weight;
          if constexpr (kScore != Score::dot) {
            if (a.entropy && weight > 0.0F) state.u[half] += weight * x;
            if (a.dropout_keys != nullptr) {
              weight *= dropout_factor(a, a.dropout_keys[b], h, rows[half].position,
                                       shared.places[buffer].place[result_column(n, j)].position);
            }
          }
        }
      }
    }
  }

  __device__ void tile(int64_t index, int buffer) {
    const bool masked = !shared.search.visibility(index).all || (index + 1) * kColumns > a.k_tokens;
    float s[kTiles][4] = {};
    scores(s, buffer, index, masked);
    weigh(s, buffer);
    Products<T, kWidth>::pn(o, s, shared.v[buffer], shared.scratch[threadIdx.x / 32]);
  }

  __device__ void store() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float l = row_sum(state.l[half]);
      const float u = row_sum(state.u[half]);
      if (!inside[half]) continue;
      const int64_t at = statistic(half);
      const bool seen = l != 0.0F;  // NaN counts as seen
      const float factor = f.out == nullptr ? 1.0F : seen ? 1.0F / l : 0.0F;
      if (lane_place() == 0) {
        if (f.out == nullptr) {
          f.m[at] = state.m[half];
          f.l[at] = l;
          if (a.entropy) f.u[at] = u;
        } else {
          f.lse[at] = seen ? state.m[half] + logf(l) : -INFINITY;
          if (a.entropy) f.row_entropy[at] = seen ? logf(l) - u / l : 0.0F;
        }
      }
      const int64_t row =
          f.out == nullptr ? output(half) : (b * a.q_tokens + query(half)) * f.out_stride + h * a.value_width;
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int column = result_column(n, j);
          if (column >= a.value_width) continue;
          const float value = o[n][2 * half + j] * factor;
          if (f.out == nullptr) {
            f.o[row + column] = value;
          } else {
            static_cast<T*>(f.out)[row + column] = from_float<T>(value);
          }
        }
      }
    }
  }

  __device__ void run() {
    if (threadIdx.x == 0) shared.search.begin(a, b, first, kRows);
    if constexpr (kScore == Score::additive) {
      for (int c = static_cast<int>(threadIdx.x); c < a.width; c += static_cast<int>(blockDim.x)) {
        shared.y[c] = to_float(static_cast<const T*>(a.score_vectors)[h * a.width + c]);
      }
    }
    load_tile<T, kWidth>(tile_source<T>(a.q, b, a.q_tokens, a.q_stride, h, a.width), first, kRows, shared.q);
    commit_copies();
    load_state();
    __syncthreads();
    for_tiles(
        ceil_div(a.k_tokens, kColumns), [this](int64_t from) { return shared.search.next(from); },
        [this](int64_t at, int buffer) { load_keys(at, buffer); },
        [this](int64_t at, int buffer) { tile(at, buffer); });
    store();
  }
};

template <class T, int kWidth, Score kScore>
__global__ void __launch_bounds__(32 * TileShape<T>::kWarps, 1) forward_kernel(CudaAttentionForward f) {
  Forward<T, kWidth, kScore>(f, *dynamic_shared<ForwardShared<T, kWidth>>()).run();
}

template <class T, int kWidth>
int forward(const CudaAttentionForward& f, CudaStream stream) {
  using Shared = ForwardShared<T, kWidth>;
  const CudaAttention& a = f.a;
  const dim3 blocks(static_cast<unsigned>(ceil_div(a.q_tokens, Shared::kRows)), static_cast<unsigned>(a.heads),
                    static_cast<unsigned>(a.batch));
  const auto start = [&](auto kernel) {
    return launch("attention", kernel, blocks, 32 * TileShape<T>::kWarps, sizeof(Shared), stream, f);
  };
  if (a.additive) return start(forward_kernel<T, kWidth, Score::additive>);
  const bool general = a.slopes != nullptr || a.dropout_keys != nullptr || a.entropy;
  return general ? start(forward_kernel<T, kWidth, Score::dot_general>) : start(forward_kernel<T, kWidth, Score::dot>);
}

// A warp per row of [B, T, H].
template <class T>
__global__ void finish_kernel(CudaAttentionFinish a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warps = int64_t{gridDim.x} * kElementThreads / 32;
  for (int64_t row = (blockIdx.x * int64_t{kElementThreads} + threadIdx.x) / 32; row < a.batch * a.tokens * a.heads;
       row += warps) {
    const int64_t token = row / a.heads, head = row % a.heads;
    const int64_t at = (token / a.tokens * a.heads + head) * a.tokens + token % a.tokens;
    const float l = a.l[at];
    const bool seen = l != 0.0F;
    const float factor = seen ? 1.0F / l : 0.0F;
    T* out = static_cast<T*>(a.out) + token * a.out_stride + head * a.value_width;
    for (int64_t c = lane; c < a.value_width; c += 32) {
      out[c] = from_float<T>(seen ? a.o[row * a.value_width + c] * factor : 0.0F);
    }
    if (lane != 0) continue;
    a.lse[at] = seen ? a.m[at] + logf(l) : -INFINITY;
    if (a.row_entropy != nullptr) a.row_entropy[at] = seen ? logf(l) - a.u[at] / l : 0.0F;
  }
}

}  // namespace

int attention_forward(const CudaAttentionForward* f, CudaStream stream) {
  return with_type("attention", f->a.type, [&](auto element) {
    using T = decltype(element);
    const int64_t width = f->a.width > f->a.value_width ? f->a.width : f->a.value_width;
    if (width <= 64) return forward<T, 64>(*f, stream);
    if (width <= kCudaAttentionWidth) return forward<T, kCudaAttentionWidth>(*f, stream);
    return failed(1, "attention", "heads are wider than 128");
  });
}

int attention_finish(const CudaAttentionFinish* a, CudaStream stream) {
  return with_type("attention_finish", a->type, [&](auto element) {
    return launch("attention_finish", finish_kernel<decltype(element)>,
                  element_blocks(a->batch * a->tokens * a->heads, 32, 1), kElementThreads, 0, stream, *a);
  });
}

}  // namespace farsight::cuda
