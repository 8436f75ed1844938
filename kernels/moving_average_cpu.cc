// SPDX-License-Identifier: Apache-2.0
#include "kernels/moving_average_cpu.h"

#include <algorithm>
#include <vector>

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/moving_average_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// y[t] = mean of in[t .. t + kernel); two sums in flight.
HWY_ATTR void WindowMeans(const float* in, int64_t kernel, int64_t n, float* y) {
  const V32 factor = splat(1.0F / static_cast<float>(kernel));
  for_vectors(n, [&](int64_t t, auto io) HWY_ATTR {
    V32 even = io.load(in + t), odd = hn::Zero(F32());
    for (int64_t i = 1; i < kernel; i += 2) {
      odd = hn::Add(odd, io.load(in + t + i));
      even = hn::Add(even, io.load(in + t + i + 1));
    }
    io.store(hn::Mul(hn::Add(even, odd), factor), y + t);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(WindowMeans);

int64_t grain(int64_t length) { return 2048 / (length + 1) + 1; }

}  // namespace

void moving_average_forward_cpu(const float* x, int64_t x_stride, int64_t rows, int64_t length, int64_t kernel,
                                float* y) {
  const int64_t half = kernel / 2;
  parallel_for(rows, grain(length), [&](int64_t begin, int64_t end) {
    std::vector<float> extended(static_cast<size_t>(length + kernel - 1));
    for (int64_t r = begin; r < end; ++r) {
      const float* row = x + r * x_stride;
      std::fill_n(extended.begin(), half, row[0]);
      std::copy_n(row, length, extended.begin() + half);
      std::fill_n(extended.end() - half, half, row[length - 1]);
      HWY_DYNAMIC_DISPATCH(WindowMeans)(extended.data(), kernel, length, y + r * length);
    }
  });
}

// The gradient of the extended series is the moving average of dy between zeros; the ends fold onto the end values.
void moving_average_backward_cpu(const float* dy, int64_t rows, int64_t length, int64_t kernel, bool add, float* dx,
                                 int64_t dx_stride) {
  const int64_t half = kernel / 2, extended = length + kernel - 1;
  parallel_for(rows, grain(length), [&](int64_t begin, int64_t end) {
    std::vector<float> padded(static_cast<size_t>(extended + kernel - 1)), means(static_cast<size_t>(extended));
    for (int64_t r = begin; r < end; ++r) {
      float* row = dx + r * dx_stride;
      std::copy_n(dy + r * length, length, padded.begin() + kernel - 1);
      HWY_DYNAMIC_DISPATCH(WindowMeans)(padded.data(), kernel, extended, means.data());
      for (int64_t t = 0; t < length; ++t) row[t] = means[static_cast<size_t>(half + t)] + (add ? row[t] : 0.0F);
      for (int64_t t = 0; t < half; ++t) row[0] += means[static_cast<size_t>(t)];
      for (int64_t t = half + length; t < extended; ++t) row[length - 1] += means[static_cast<size_t>(t)];
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
