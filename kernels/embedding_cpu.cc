// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding_cpu.h"

#include <algorithm>
#include <vector>

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/embedding_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// y = (a + b) * factors; b and factors may be null.
HWY_ATTR void GatherRow(const float* a, const float* b, const float* factors, int64_t n, float* y) {
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    V32 v = io.load(a + i);
    if (b != nullptr) v = hn::Add(v, io.load(b + i));
    if (factors != nullptr) v = hn::Mul(v, io.load(factors + i));
    io.store(v, y + i);
  });
}

// y += a * factors.
HWY_ATTR void ScatterRow(const float* a, const float* factors, int64_t n, float* y) {
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    V32 v = io.load(a + i);
    if (factors != nullptr) v = hn::Mul(v, io.load(factors + i));
    io.store(hn::Add(io.load(y + i), v), y + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(GatherRow);
HWY_EXPORT(ScatterRow);

constexpr int64_t kStripe = 16;  // columns; a multiple of 4 for dropout
}  // namespace

void gather_rows_cpu(const float* table, std::span<const int32_t> ids, const float* positional,
                     std::span<const int32_t> position_ids, int64_t cols, const DropoutDraw& draw, float* y) {
  parallel_for(static_cast<int64_t>(ids.size()), 8192 / (cols + 1) + 1, [&](int64_t begin, int64_t end) {
    std::vector<float> factors(static_cast<size_t>(draw.active() ? cols : 0));
    for (int64_t r = begin; r < end; ++r) {
      const auto n = static_cast<size_t>(r);
      if (ids[n] < 0) {
        std::fill_n(y + r * cols, cols, 0.0F);
        continue;
      }
      if (draw.active()) draw.factors(r, 0, cols, factors.data());
      HWY_DYNAMIC_DISPATCH(GatherRow)
      (table + ids[n] * cols, positional == nullptr ? nullptr : positional + position_ids[n] * cols,
       draw.active() ? factors.data() : nullptr, cols, y + r * cols);
    }
  });
}

void scatter_rows_cpu(const float* dy, int64_t stride, std::span<const int32_t> ids, int64_t cols,
                      const DropoutDraw& draw, float* gradient) {
  // Threads own columns, so that rows which meet in one table row are added in row order by one thread.
  parallel_for((cols + kStripe - 1) / kStripe, 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kStripe;
    const int64_t count = std::min(cols, end * kStripe) - first;
    std::vector<float> factors(static_cast<size_t>(draw.active() ? count : 0));
    for (size_t n = 0; n < ids.size(); ++n) {
      const auto r = static_cast<int64_t>(n);
      if (ids[n] < 0) continue;
      if (draw.active()) draw.factors(r, first, count, factors.data());
      HWY_DYNAMIC_DISPATCH(ScatterRow)
      (dy + r * stride + first, draw.active() ? factors.data() : nullptr, count, gradient + ids[n] * cols + first);
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
