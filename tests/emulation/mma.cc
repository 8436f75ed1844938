// SPDX-License-Identifier: Apache-2.0
// The tensor-core instructions of kernels/cuda/mma_cuda.h, element by element as the instruction set defines them.
#include <cstddef>

#include "tests/emulation/dialect.h"

namespace farsight::cuda {
namespace {

constexpr int kLanes = 32;

float half(uint32_t pair, int which) { return bf16_to_float(static_cast<uint16_t>(pair >> (16 * which))); }

struct MmaInput {
  float d[4];
  uint32_t a[4], b[2];
};
struct MmaOutput {
  float d[4];
};

void mma_warp(const std::byte* inputs, std::byte* outputs) {
  const auto* in = reinterpret_cast<const MmaInput*>(inputs);
  auto* out = reinterpret_cast<MmaOutput*>(outputs);
  float a[16][16], b[8][16];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      for (int h = 0; h < 2; ++h) a[g + 8 * (i % 2)][2 * t + h + 8 * (i / 2)] = half(in[lane].a[i], h);
    }
    for (int i = 0; i < 2; ++i) {
      for (int h = 0; h < 2; ++h) b[g][2 * t + h + 8 * i] = half(in[lane].b[i], h);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      float sum = in[lane].d[i];
      for (int k = 0; k < 16; ++k) sum += a[g + 8 * (i / 2)][k] * b[2 * t + i % 2][k];
      out[lane].d[i] = sum;
    }
  }
}

struct LoadOutput {
  uint32_t r[4];
};

template <bool kTransposed>
void load_warp(const std::byte* inputs, std::byte* outputs) {
  const auto* rows = reinterpret_cast<const bf16* const*>(inputs);
  auto* out = reinterpret_cast<LoadOutput*>(outputs);
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const auto element = [&](int row, int column) { return static_cast<uint32_t>(rows[8 * i + row][column].bits); };
      out[lane].r[i] = kTransposed ? element(2 * t, g) | element(2 * t + 1, g) << 16
                                   : element(g, 2 * t) | element(g, 2 * t + 1) << 16;
    }
  }
}

}  // namespace

void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  MmaInput in;
  std::memcpy(in.d, d, sizeof(d));
  std::memcpy(in.a, a, sizeof(a));
  std::memcpy(in.b, b, sizeof(b));
  emulation::warp_collective(&in, sizeof(in), d, sizeof(MmaOutput), mma_warp);
}

void load_matrices(uint32_t (&r)[4], const bf16* row) {
  emulation::warp_collective(&row, sizeof(row), r, sizeof(LoadOutput), load_warp<false>);
}

void load_matrices_transposed(uint32_t (&r)[4], const bf16* row) {
  emulation::warp_collective(&row, sizeof(row), r, sizeof(LoadOutput), load_warp<true>);
}

void copy_async(void* to_shared, const void* from, bool valid) { emulation::add_copy(to_shared, from, 16, valid); }
void commit_copies() { emulation::close_copies(); }
void wait_copies(int pending) { emulation::finish_copies(pending); }

}  // namespace farsight::cuda
