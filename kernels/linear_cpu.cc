// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear_cpu.h"

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

HWY_ATTR void AddBias(const float* bias, int64_t rows, int64_t cols, float* y) {
  for (int64_t r = 0; r < rows; ++r, y += cols) {
    for_vectors(cols,
                [&](int64_t i, auto io) HWY_ATTR { io.store(hn::Add(io.load(y + i), io.load(bias + i)), y + i); });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(AddBias);
}  // namespace

void add_bias_cpu(const float* bias, int64_t rows, int64_t cols, float* y) {
  parallel_for(rows, 16384 / (cols + 1) + 1, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(AddBias)(bias, end - begin, cols, y + begin * cols);
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
