// SPDX-License-Identifier: Apache-2.0
// Backward tiles of attention on the device, in two kernels without atomics, so that the sums have one order: blocks of
// queries give dq, blocks of keys give dk and dv. Both compute the scores and dO V^T again: 7 products instead of 5.
#include "kernels/attention/tile_cuda.h"
#include "kernels/cuda/elementwise_cuda.h"
#include "kernels/cuda/operations_cuda.h"

namespace farsight::cuda {
namespace {

enum class Score : int { dot, dot_general, additive };  // general: ALiBi, dropout or entropy

// What backward knows of a query.
struct QueryRow {
  Place place;
  float lse, term, grad_entropy;
};

__device__ inline QueryRow query_row(const CudaAttentionBackward& f, int64_t b, int64_t h, int64_t query) {
  const CudaAttention& a = f.a;
  if (query >= a.q_tokens) return {{0, 0}, -INFINITY, 0.0F, 0.0F};
  const int64_t token = b * a.q_tokens + query, row = (b * a.heads + h) * a.q_tokens + query;
  return {{a.q_positions[token], a.q_documents == nullptr ? 0 : a.q_documents[token]},
          f.lse[row],
          f.row_term[row],
          f.grad_entropy == nullptr ? 0.0F : f.grad_entropy[row]};
}

// One pair: from its product and dp = dO . V to its weight (times the multiplier of dropout, for dV) and its score
// gradient.
template <class T, Score kScore>
__device__ void pair_gradient(const CudaAttentionBackward& f, int64_t b, int64_t h, const QueryRow& q, const Place& key,
                              bool masked, bool inside, float& s, float& dp) {
  const CudaAttention& a = f.a;
  if (kScore != Score::additive) s *= a.scale;
  if (kScore != Score::dot && a.slopes != nullptr) {
    s -= a.slopes[h] * fabsf(static_cast<float>(int64_t{q.place.position} - key.position));
  }
  if (q.lse == -INFINITY || (masked && (!inside || !visible(a, q.place, key)))) {
    s = dp = 0.0F;
    return;
  }
  const float x = s - q.lse;
  const float p = exponential<T>(x);
  float factor = 1.0F;
  if (kScore != Score::dot && a.dropout_keys != nullptr) {
    factor = dropout_factor(a, a.dropout_keys[b], h, q.place.position, key.position);
  }
  float g = factor * dp - q.term;
  if (kScore != Score::dot && f.grad_entropy != nullptr) g -= q.grad_entropy * x;
  s = p * factor;
  dp = p * g;
}

// A result of a warp's rows to global memory: rows [first, first + 16) of `tokens`.
template <int kWidth>
__device__ void store_rows(const float (&acc)[kWidth / 8][4], float factor, void* to, DType type, int64_t offset,
                           int64_t stride, int64_t first, int64_t tokens, int64_t width, bool add) {
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t row = first + result_row(i), column = result_column(n, i);
      if (row < tokens && column < width) put(to, type, offset + row * stride + column, acc[n][i] * factor, add);
    }
  }
}

__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) / 32; }

// --- dq: rows are queries, columns keys.

template <class T, int kWidth>
struct QueryShared {
  static constexpr int kRows = 16 * TileShape<T>::kWarps, kColumns = TileShape<T>::kColumns;
  static constexpr int kStride = kTileStride<T, kWidth>;
  T q[kRows * kStride];
  T dout[kRows * kStride];
  T k[2][kColumns * kStride];
  T v[2][kColumns * kStride];
  ColumnPlaces<kColumns> places[2];
  float scratch[TileShape<T>::kWarps][16 * (kColumns + 1)];
  float y[kWidth];
  float dy[TileShape<T>::kWarps][kWidth];
  TileSearch<Side::queries, kColumns> search;
};

template <class T, int kWidth, Score kScore>
struct QueryBackward {
  using Shared = QueryShared<T, kWidth>;
  static constexpr int kRows = Shared::kRows, kColumns = Shared::kColumns, kTiles = kColumns / 8;

  const CudaAttentionBackward& f;
  const CudaAttention& a;
  Shared& shared;
  int64_t b, h, first;
  QueryRow rows[2];
  float dq[kWidth / 8][4];
  float dy[kScore == Score::additive ? kWidth / 8 : 1][4];

  __device__ QueryBackward(const CudaAttentionBackward& arguments, Shared& memory)
      : f(arguments), a(arguments.a), shared(memory), b(blockIdx.z), h(blockIdx.y) {
    first = int64_t{gridDim.x - 1 - blockIdx.x} * kRows;  // the long ones first
  }

  __device__ void load_keys(int64_t tile, int buffer) {
    const int64_t kv_head = h / (a.heads / a.kv_heads), at = tile * kColumns;
    load_tile<T, kWidth>(tile_source<T>(a.k, b, a.k_tokens, a.k_stride, kv_head, a.width), at, kColumns,
                         shared.k[buffer]);
    load_tile<T, kWidth>(tile_source<T>(a.v, b, a.k_tokens, a.v_stride, kv_head, a.value_width), at, kColumns,
                         shared.v[buffer]);
    load_places(a.k_positions, a.k_documents, b, a.k_tokens, at, shared.places[buffer]);
    commit_copies();
  }

  __device__ void tile(int64_t index, int buffer) {
    const T* q = shared.q + warp_index() * 16 * Shared::kStride;
    const bool masked = !shared.search.visibility(index).all || (index + 1) * kColumns > a.k_tokens;
    float s[kTiles][4] = {}, dp[kTiles][4] = {};
    if constexpr (kScore == Score::additive) {
      additive_scores<T, kWidth>(s, q, shared.k[buffer], shared.y, a.width);
    } else {
      Products<T, kWidth>::nt(s, q, shared.k[buffer]);
    }
    Products<T, kWidth>::nt(dp, shared.dout + warp_index() * 16 * Shared::kStride, shared.v[buffer]);
    const int64_t keys = a.k_tokens - index * kColumns;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = result_column(n, i);
        pair_gradient<T, kScore>(f, b, h, rows[i / 2], shared.places[buffer].place[column], masked, column < keys,
                                 s[n][i], dp[n][i]);
      }
    }
    float* scratch = shared.scratch[warp_index()];
    if constexpr (kScore == Score::additive) {
      additive_gradient<T, kWidth>(dq, dy, dp, q, shared.k[buffer], shared.y, a.width, scratch);
    } else {
      Products<T, kWidth>::pn(dq, dp, shared.k[buffer], scratch);
    }
  }

  // Sums over the rows of the block in order: lanes, warps.
  __device__ void store_score_vectors() {
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float sum = dy[n][j] + dy[n][2 + j];
        for (int distance = 4; distance < 32; distance *= 2) sum += __shfl_xor_sync(kWholeWarp, sum, distance);
        if (lane_group() == 0) shared.dy[warp_index()][result_column(n, j)] = sum;
      }
    }
    __syncthreads();
    float* to = f.dscore_vectors + ((b * gridDim.x + blockIdx.x) * a.heads + h) * a.width;
    for (int c = static_cast<int>(threadIdx.x); c < a.width; c += static_cast<int>(blockDim.x)) {
      float sum = 0.0F;
      for (int w = 0; w < TileShape<T>::kWarps; ++w) sum += shared.dy[w][c];
      to[c] = sum;
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
    load_tile<T, kWidth>(tile_source<T>(f.dout, b, a.q_tokens, f.dout_stride, h, a.value_width), first, kRows,
                         shared.dout);
    commit_copies();
    const int64_t own = first + warp_index() * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half) rows[half] = query_row(f, b, h, own + lane_group() + 8 * half);
    for (auto& row : dq) row[0] = row[1] = row[2] = row[3] = 0.0F;
    for (auto& row : dy) row[0] = row[1] = row[2] = row[3] = 0.0F;
    __syncthreads();
    for_tiles(
        ceil_div(a.k_tokens, kColumns), [this](int64_t from) { return shared.search.next(from); },
        [this](int64_t at, int buffer) { load_keys(at, buffer); },
        [this](int64_t at, int buffer) { tile(at, buffer); });
    store_rows<kWidth>(dq, kScore == Score::additive ? 1.0F : a.scale, f.dq, f.gradient_type,
                       b * a.q_tokens * f.dq_stride + h * a.width, f.dq_stride, own, a.q_tokens, a.width, f.add_q);
    if constexpr (kScore == Score::additive) store_score_vectors();
  }
};

template <class T, int kWidth, Score kScore>
__global__ void __launch_bounds__(32 * TileShape<T>::kWarps, 1) query_kernel(CudaAttentionBackward f) {
  QueryBackward<T, kWidth, kScore>(f, *dynamic_shared<QueryShared<T, kWidth>>()).run();
}

// --- dk and dv: rows are keys, columns queries of all heads that share them.

template <class T, int kWidth>
struct KeyShared {
  static constexpr int kRows = 16 * TileShape<T>::kWarps;
  // Two results of 128 columns leave registers for no more.
  static constexpr int kColumns = kWidth > 64 ? 32 : TileShape<T>::kColumns;
  static constexpr int kStride = kTileStride<T, kWidth>;
  T k[kRows * kStride];
  T v[kRows * kStride];
  T q[2][kColumns * kStride];
  T dout[2][kColumns * kStride];
  QueryRow columns[2][kColumns];
  float scratch[TileShape<T>::kWarps][16 * (kColumns + 1)];
  float y[2][kWidth];
  TileSearch<Side::keys, kColumns> search;
};

template <class T, int kWidth, Score kScore>
struct KeyBackward {
  using Shared = KeyShared<T, kWidth>;
  static constexpr int kRows = Shared::kRows, kColumns = Shared::kColumns, kTiles = kColumns / 8;

  const CudaAttentionBackward& f;
  const CudaAttention& a;
  Shared& shared;
  int64_t b, kv_head, first, group, tiles;
  Place rows[2];
  bool inside[2];
  float dk[kWidth / 8][4], dv[kWidth / 8][4];

  __device__ KeyBackward(const CudaAttentionBackward& arguments, Shared& memory)
      : f(arguments), a(arguments.a), shared(memory), b(blockIdx.z), kv_head(blockIdx.y) {
    first = int64_t{blockIdx.x} * kRows;
    group = a.heads / a.kv_heads;
    tiles = ceil_div(a.q_tokens, kColumns);
  }

  __device__ int64_t head(int64_t step) const { return kv_head * group + step / tiles; }

  __device__ void load_queries(int64_t step, int buffer) {
    const int64_t h = head(step), at = step % tiles * kColumns;
    load_tile<T, kWidth>(tile_source<T>(a.q, b, a.q_tokens, a.q_stride, h, a.width), at, kColumns, shared.q[buffer]);
    load_tile<T, kWidth>(tile_source<T>(f.dout, b, a.q_tokens, f.dout_stride, h, a.value_width), at, kColumns,
                         shared.dout[buffer]);
    for (int i = static_cast<int>(threadIdx.x); i < kColumns; i += static_cast<int>(blockDim.x)) {
      shared.columns[buffer][i] = query_row(f, b, h, at + i);
    }
    if constexpr (kScore == Score::additive) {
      for (int c = static_cast<int>(threadIdx.x); c < a.width; c += static_cast<int>(blockDim.x)) {
        shared.y[buffer][c] = to_float(static_cast<const T*>(a.score_vectors)[h * a.width + c]);
      }
    }
    commit_copies();
  }

  __device__ void step(int64_t index, int buffer) {
    const T* k = shared.k + warp_index() * 16 * Shared::kStride;
    const bool masked = !shared.search.visibility(index % tiles).all || first + kRows > a.k_tokens;
    float s[kTiles][4] = {}, dp[kTiles][4] = {};
    if constexpr (kScore == Score::additive) {
      additive_scores<T, kWidth>(s, k, shared.q[buffer], shared.y[buffer], a.width);
    } else {
      Products<T, kWidth>::nt(s, k, shared.q[buffer]);
    }
    Products<T, kWidth>::nt(dp, shared.v + warp_index() * 16 * Shared::kStride, shared.dout[buffer]);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        pair_gradient<T, kScore>(f, b, head(index), shared.columns[buffer][result_column(n, i)], rows[i / 2], masked,
                                 inside[i / 2], s[n][i], dp[n][i]);
      }
    }
    float* scratch = shared.scratch[warp_index()];
    Products<T, kWidth>::pn(dv, s, shared.dout[buffer], scratch);
    if constexpr (kScore == Score::additive) {
      float unused[kWidth / 8][4] = {};
      additive_gradient<T, kWidth>(dk, unused, dp, k, shared.q[buffer], shared.y[buffer], a.width, scratch);
    } else {
      Products<T, kWidth>::pn(dk, dp, shared.q[buffer], scratch);
    }
  }

  __device__ void run() {
    if (threadIdx.x == 0) shared.search.begin(a, b, first, kRows);
    load_tile<T, kWidth>(tile_source<T>(a.k, b, a.k_tokens, a.k_stride, kv_head, a.width), first, kRows, shared.k);
    load_tile<T, kWidth>(tile_source<T>(a.v, b, a.k_tokens, a.v_stride, kv_head, a.value_width), first, kRows,
                         shared.v);
    commit_copies();
    const int64_t own = first + warp_index() * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t key = own + lane_group() + 8 * half, at = b * a.k_tokens + key;
      inside[half] = key < a.k_tokens;
      rows[half] = {inside[half] ? a.k_positions[at] : 0,
                    inside[half] && a.k_documents != nullptr ? a.k_documents[at] : 0};
    }
    for (auto& row : dk) row[0] = row[1] = row[2] = row[3] = 0.0F;
    for (auto& row : dv) row[0] = row[1] = row[2] = row[3] = 0.0F;
    __syncthreads();
    for_tiles(
        group * tiles, [this](int64_t from) { return shared.search.next_step(from, group); },
        [this](int64_t at, int buffer) { load_queries(at, buffer); },
        [this](int64_t at, int buffer) { step(at, buffer); });
    store_rows<kWidth>(dk, kScore == Score::additive ? 1.0F : a.scale, f.dk, f.gradient_type,
                       b * a.k_tokens * f.dk_stride + kv_head * a.width, f.dk_stride, own, a.k_tokens, a.width,
                       f.add_kv);
    store_rows<kWidth>(dv, 1.0F, f.dv, f.gradient_type, b * a.k_tokens * f.dv_stride + kv_head * a.value_width,
                       f.dv_stride, own, a.k_tokens, a.value_width, f.add_kv);
  }
};

template <class T, int kWidth, Score kScore>
__global__ void __launch_bounds__(32 * TileShape<T>::kWarps, 1) key_kernel(CudaAttentionBackward f) {
  KeyBackward<T, kWidth, kScore>(f, *dynamic_shared<KeyShared<T, kWidth>>()).run();
}

template <class T, int kWidth, Score kScore>
int backward(const CudaAttentionBackward& f, CudaStream stream) {
  const CudaAttention& a = f.a;
  const auto grid = [&](int64_t tokens, int rows, int64_t heads) {
    return dim3(static_cast<unsigned>(ceil_div(tokens, rows)), static_cast<unsigned>(heads),
                static_cast<unsigned>(a.batch));
  };
  constexpr int kThreads = 32 * TileShape<T>::kWarps;
  using Queries = QueryShared<T, kWidth>;
  using Keys = KeyShared<T, kWidth>;
  const int status = launch("attention dq", query_kernel<T, kWidth, kScore>, grid(a.q_tokens, Queries::kRows, a.heads),
                            kThreads, sizeof(Queries), stream, f);
  if (status != 0) return status;
  return launch("attention dk dv", key_kernel<T, kWidth, kScore>, grid(a.k_tokens, Keys::kRows, a.kv_heads), kThreads,
                sizeof(Keys), stream, f);
}

template <class T, int kWidth>
int choose(const CudaAttentionBackward& f, CudaStream stream) {
  const CudaAttention& a = f.a;
  if (a.additive) return backward<T, kWidth, Score::additive>(f, stream);
  const bool general = a.slopes != nullptr || a.dropout_keys != nullptr || f.grad_entropy != nullptr;
  return general ? backward<T, kWidth, Score::dot_general>(f, stream) : backward<T, kWidth, Score::dot>(f, stream);
}

// A warp per row of [B, T, H]; the dot product in fp64, as it enters every pair of the row.
template <class T>
__global__ void row_terms_kernel(CudaAttentionRowTerms a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warps = int64_t{gridDim.x} * kElementThreads / 32;
  for (int64_t row = (blockIdx.x * int64_t{kElementThreads} + threadIdx.x) / 32; row < a.batch * a.tokens * a.heads;
       row += warps) {
    const int64_t token = row / a.heads, head = row % a.heads;
    const int64_t at = (token / a.tokens * a.heads + head) * a.tokens + token % a.tokens;
    const T* out = static_cast<const T*>(a.out) + token * a.out_stride + head * a.value_width;
    const T* dout = static_cast<const T*>(a.dout) + token * a.dout_stride + head * a.value_width;
    double sum = 0.0;
    for (int64_t c = lane; c < a.value_width; c += 32) {
      sum += static_cast<double>(to_float(out[c])) * static_cast<double>(to_float(dout[c]));
    }
    auto term = static_cast<float>(warp_sum(sum));
    if (lane != 0) continue;
    if (a.grad_lse != nullptr) term -= a.grad_lse[at];
    if (a.grad_entropy != nullptr) term += a.grad_entropy[at] * a.row_entropy[at];
    a.row_term[at] = a.lse[at] == -INFINITY ? 0.0F : term;
  }
}

}  // namespace

int attention_row_terms(const CudaAttentionRowTerms* a, CudaStream stream) {
  return with_type("attention row terms", a->type, [&](auto element) {
    return launch("attention row terms", row_terms_kernel<decltype(element)>,
                  element_blocks(a->batch * a->tokens * a->heads, 32, 1), kElementThreads, 0, stream, *a);
  });
}

int attention_backward(const CudaAttentionBackward* f, CudaStream stream) {
  return with_type("attention backward", f->a.type, [&](auto element) {
    using T = decltype(element);
    const int64_t width = f->a.width > f->a.value_width ? f->a.width : f->a.value_width;
    if (width <= 64) return choose<T, 64>(*f, stream);
    if (width <= kCudaAttentionWidth) return choose<T, kCudaAttentionWidth>(*f, stream);
    return failed(1, "attention backward", "heads are wider than 128");
  });
}

}  // namespace farsight::cuda
