// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 and the multipliers of token dropout in device code (see random.h, dropout.h).
#pragma once

#include <cstdint>

#include "kernels/cuda/dialect_cuda.h"
#include "kernels/dropout_cuda.h"

namespace farsight::cuda {

struct PhiloxWords {
  uint32_t w[4];
};

__device__ inline PhiloxWords philox_words(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53U} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57U} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return {{c0, c1, c2, c3}};
}

// An index into registers would move them to memory.
__device__ inline uint32_t select(const PhiloxWords& words, int i) {
  const uint32_t low = (i & 1) != 0 ? words.w[1] : words.w[0];
  const uint32_t high = (i & 1) != 0 ? words.w[3] : words.w[2];
  return (i & 2) != 0 ? high : low;
}

// values[i] *= factor of (row, column + i), for an active site. With N > 1, column is a multiple of 4.
template <int N>
__device__ void drop(const CudaDropout& site, int64_t row, int64_t column, float (&values)[N]) {
  row += site.first_row;
  column += site.first_channel;
  const uint64_t key = site.keys[row / site.tokens];
  const auto position = static_cast<uint32_t>(site.positions[row]);
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    const auto block = static_cast<uint32_t>((column + i) >> 2);
    const PhiloxWords words = philox_words(key, position, block, 0, 0);
#pragma unroll
    for (int j = 0; j < 4 && i + j < N; ++j) {
      const uint32_t word = N == 1 ? select(words, static_cast<int>(column & 3)) : words.w[j];
      values[i + j] *= word >= site.threshold ? site.keep : 0.0F;
    }
  }
}

}  // namespace farsight::cuda
