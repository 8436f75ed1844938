// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/sdpa_case.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <fmt/format.h>

#include "kernels/bfloat16.h"

namespace farsight::testing {
namespace {

using Generator = std::mt19937_64;
int64_t pick(Generator& g, int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(g); }

// Exact in bf16.
std::vector<double> normals(uint64_t seed, int64_t n) {
  Generator g(seed);
  std::normal_distribution<double> draw;
  std::vector<double> values(static_cast<size_t>(n));
  for (double& x : values) x = static_cast<double>(bf16_to_float(float_to_bf16(static_cast<float>(draw(g)))));
  return values;
}

// Positions that mean the same to the oracle as shift and index do to the library.
constexpr int32_t kBase = 100000;
void set_positions(SdpaProblem& p) {
  DenseAttention& d = p.dense;
  if (!p.packed()) {
    d.batch = p.a.batch;
    d.queries = p.a.q_tokens;
    d.keys = p.a.k_tokens;
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t i = 0; i < d.queries; ++i) d.query_positions.push_back(static_cast<int32_t>(kBase + i + p.a.shift));
      for (int64_t j = 0; j < d.keys; ++j) d.key_positions.push_back(static_cast<int32_t>(kBase + j));
    }
    return;
  }
  const SdpaDocumentList& docs = p.documents;
  d.batch = p.q_rows() / docs.lse_tokens;
  d.queries = docs.lse_tokens;
  d.keys = p.k_rows() / d.batch;
  d.spec.documents = true;
  for (size_t n = 0; n + 1 < docs.q_starts.size(); ++n) {
    const int32_t queries = docs.q_starts[n + 1] - docs.q_starts[n], keys = docs.k_starts[n + 1] - docs.k_starts[n];
    const auto shift = static_cast<int32_t>(p.a.shift + (docs.align_ends ? keys - queries : 0));
    for (int32_t i = 0; i < queries; ++i) d.query_positions.push_back(kBase + i + shift);
    for (int32_t j = 0; j < keys; ++j) d.key_positions.push_back(kBase + j);
    d.query_documents.insert(d.query_documents.end(), static_cast<size_t>(queries), static_cast<int32_t>(n));
    d.key_documents.insert(d.key_documents.end(), static_cast<size_t>(keys), static_cast<int32_t>(n));
  }
}

void random_mask(Generator& g, CudaSdpa& a) {
  a.low = kSdpaNoLow;
  a.high = kSdpaNoHigh;
  const int64_t kind = pick(g, 0, 5);
  if (kind == 0) return;
  a.low = 0;  // causal
  if (kind == 2 || kind == 4) a.high = static_cast<int32_t>(pick(g, 0, a.k_tokens));
  if (kind == 3 || kind == 4) a.shift = std::max<int64_t>(0, a.k_tokens - a.q_tokens);
  if (kind == 5) {
    a.shift = pick(g, 0, 9);
    a.low = static_cast<int32_t>(-pick(g, 0, 9));
    a.high = static_cast<int32_t>(a.shift + pick(g, 0, 20));
  }
}

}  // namespace

std::string SdpaProblem::text() const {
  return fmt::format("B={} Tq={} Tk={} H={} Hkv={} D={} Dv={} low={} high={} shift={}{}{}", a.batch, a.q_tokens,
                     a.k_tokens, a.heads, a.kv_heads, a.width, a.value_width, a.low, a.high, a.shift,
                     a.deterministic ? " deterministic" : "", packed() ? " packed" : "");
}

void fill_sdpa(SdpaProblem& p, uint64_t seed) {
  DenseAttention& d = p.dense;
  set_positions(p);
  d.heads = p.a.heads;
  d.kv_heads = p.a.kv_heads;
  d.width = p.a.width;
  d.value_width = p.a.value_width;
  d.spec.scale = p.a.scale;
  d.spec.causal = false;
  d.spec.window_left = p.a.high;
  d.spec.window_right = p.a.low <= -kNoWindow ? kNoWindow : -p.a.low;
  d.q = normals(seed, p.q_rows() * d.heads * d.width);
  d.k = normals(seed + 1, p.k_rows() * d.kv_heads * d.width);
  d.v = normals(seed + 2, p.k_rows() * d.kv_heads * d.value_width);
  p.dout = normals(seed + 3, p.q_rows() * d.heads * d.value_width);
}

SdpaProblem random_sdpa(uint64_t seed, int64_t most_tokens) {
  Generator g(seed);
  SdpaProblem p;
  CudaSdpa& a = p.a;
  a.type = DType::bf16;
  a.batch = pick(g, 1, 2);
  a.kv_heads = pick(g, 1, 2);
  a.heads = a.kv_heads * pick(g, 1, 3);
  a.width = 8 * pick(g, 1, 12);
  a.value_width = pick(g, 0, 1) == 0 ? a.width : 8 * pick(g, 1, 12);
  a.q_tokens = pick(g, 2, most_tokens);
  a.k_tokens = pick(g, 0, 2) == 0 ? a.q_tokens : pick(g, 2, most_tokens);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.width)));
  a.deterministic = pick(g, 0, 3) == 0;
  p.dq_type = pick(g, 0, 1) == 0 ? DType::bf16 : DType::f32;
  random_mask(g, a);
  fill_sdpa(p, seed);
  return p;
}

SdpaProblem random_packed_sdpa(uint64_t seed, int64_t most_rows) {
  Generator g(seed);
  SdpaProblem p = random_sdpa(seed, 8);
  p.dense = {};
  CudaSdpa& a = p.a;
  const int64_t rows = pick(g, 1, most_rows), tokens = pick(g, 20, 40);
  p.documents.lse_tokens = tokens;
  p.documents.q_starts = {0};
  a.q_tokens = 1;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t left = tokens; left > 0;) {
      const int64_t length = std::min(left, pick(g, 1, 17));
      p.documents.q_starts.push_back(static_cast<int32_t>(p.documents.q_starts.back() + length));
      a.q_tokens = std::max(a.q_tokens, length);
      left -= length;
    }
  }
  for (int i = 0; i < 3; ++i) p.documents.q_starts.push_back(p.documents.q_starts.back());
  p.documents.k_starts = p.documents.q_starts;
  a.k_tokens = a.q_tokens;
  a.width = 16 * pick(g, 1, 4);
  a.value_width = 16 * pick(g, 1, 4);
  a.batch = static_cast<int64_t>(p.documents.q_starts.size()) - 1;
  p.documents.align_ends = pick(g, 0, 1) == 0;
  if (sdpa_refusal(a, /*backward=*/false, {91900, 90}) != nullptr || a.shift != 0) {
    a.low = 0;
    a.high = kSdpaNoHigh;
    a.shift = 0;
  }
  fill_sdpa(p, seed);
  return p;
}

void lengthen_keys(SdpaProblem& p, uint64_t seed) {
  int32_t added = 0;
  for (size_t n = 1; n < p.documents.k_starts.size(); ++n) {
    const int32_t queries = p.documents.q_starts[n] - p.documents.q_starts[n - 1];
    added += queries == 0 ? 0 : queries + 3;
    p.documents.k_starts[n] += added;
  }
  p.a.k_tokens = 2 * p.a.q_tokens + 3;
  p.documents.align_ends = true;
  p.dense = {};
  fill_sdpa(p, seed);
}

}  // namespace farsight::testing
