// SPDX-License-Identifier: Apache-2.0
#include "kernels/patches_cpu.h"

#include <algorithm>

#include "kernels/parallel_for.h"

namespace farsight {
namespace {

// Elements of patch n that are of the series; the others repeat its last value.
int64_t own_elements(const PatchSize& size, int64_t n) {
  return std::clamp<int64_t>(size.length - n * size.stride, 0, size.patch);
}

int64_t grain(const PatchSize& size) { return 8192 / (size.count * size.patch + 1) + 1; }

}  // namespace

void patches_forward_cpu(const PatchSize& size, const float* x, int64_t x_stride, float* y) {
  parallel_for(size.rows, grain(size), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = x + r * x_stride;
      for (int64_t n = 0; n < size.count; ++n) {
        float* to = y + (r * size.count + n) * size.patch;
        const int64_t own = own_elements(size, n);
        std::copy_n(row + n * size.stride, own, to);
        std::fill(to + own, to + size.patch, row[size.length - 1]);
      }
    }
  });
}

void patches_backward_cpu(const PatchSize& size, const float* dy, bool add, float* dx, int64_t dx_stride) {
  parallel_for(size.rows, grain(size), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = dx + r * dx_stride;
      if (!add) std::fill_n(row, size.length, 0.0F);
      for (int64_t n = 0; n < size.count; ++n) {
        const float* from = dy + (r * size.count + n) * size.patch;
        const int64_t own = own_elements(size, n);
        for (int64_t i = 0; i < own; ++i) row[n * size.stride + i] += from[i];
        for (int64_t i = own; i < size.patch; ++i) row[size.length - 1] += from[i];
      }
    }
  });
}

}  // namespace farsight
