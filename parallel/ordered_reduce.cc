// SPDX-License-Identifier: Apache-2.0
#include "parallel/ordered_reduce.h"

#include <algorithm>

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "parallel/ordered_reduce.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/cache_control.h>
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kLineBytes = 64;
// Contributions come from memory or from another core's cache: requests must be under way early. Measured on a Xeon
// (Sapphire Rapids): without, a reduction of two streams from memory takes a fifth longer.
constexpr int64_t kAheadBytes = 2048;

template <ReduceOp op, class D, class V>
HWY_INLINE V combine(D, V a, V b) {
  if constexpr (op == ReduceOp::sum) {
    return hn::Add(a, b);
  } else {
    auto keep = op == ReduceOp::max ? hn::Gt(a, b) : hn::Lt(a, b);
    if constexpr (hwy::IsFloat<hn::TFromD<D>>()) keep = hn::Or(keep, hn::IsNaN(a));
    return hn::IfThenElse(keep, a, b);
  }
}

template <typename T>
HWY_INLINE void request_lines(const T* from, int64_t bytes) {
  const auto* p = reinterpret_cast<const char*>(from) + kAheadBytes;
  for (int64_t line = 0; line < bytes; line += kLineBytes) hwy::Prefetch(p + line);
}

template <ReduceOp op, typename T>
HWY_ATTR void reduce_range(std::span<const T* const> in, std::span<T* const> outs, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = begin;
  for (; i + 4 * lanes <= end; i += 4 * lanes) {
    auto a0 = hn::LoadU(d, in[0] + i), a1 = hn::LoadU(d, in[0] + i + lanes);
    auto a2 = hn::LoadU(d, in[0] + i + 2 * lanes), a3 = hn::LoadU(d, in[0] + i + 3 * lanes);
    request_lines(in[0] + i, 4 * lanes * static_cast<int64_t>(sizeof(T)));
    for (size_t r = 1; r < in.size(); ++r) {
      const T* x = in[r] + i;
      request_lines(x, 4 * lanes * static_cast<int64_t>(sizeof(T)));
      a0 = combine<op>(d, a0, hn::LoadU(d, x));
      a1 = combine<op>(d, a1, hn::LoadU(d, x + lanes));
      a2 = combine<op>(d, a2, hn::LoadU(d, x + 2 * lanes));
      a3 = combine<op>(d, a3, hn::LoadU(d, x + 3 * lanes));
    }
    for (T* const out : outs) {
      hn::StoreU(a0, d, out + i);
      hn::StoreU(a1, d, out + i + lanes);
      hn::StoreU(a2, d, out + i + 2 * lanes);
      hn::StoreU(a3, d, out + i + 3 * lanes);
    }
  }
  for (; i < end; ++i) {
    T a = in[0][i];
    for (size_t r = 1; r < in.size(); ++r) a = reduce_pair(a, in[r][i], op);
    for (T* const out : outs) out[i] = a;
  }
}

template <typename T>
HWY_ATTR void reduce_any(std::span<const T* const> in, std::span<T* const> outs, int64_t begin, int64_t end,
                         ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return reduce_range<ReduceOp::sum, T>(in, outs, begin, end);
    case ReduceOp::max:
      return reduce_range<ReduceOp::max, T>(in, outs, begin, end);
    case ReduceOp::min:
      return reduce_range<ReduceOp::min, T>(in, outs, begin, end);
  }
}

HWY_ATTR void ReduceF32(std::span<const float* const> in, std::span<float* const> outs, int64_t begin, int64_t end,
                        ReduceOp op) {
  reduce_any(in, outs, begin, end, op);
}
HWY_ATTR void ReduceF64(std::span<const double* const> in, std::span<double* const> outs, int64_t begin, int64_t end,
                        ReduceOp op) {
  reduce_any(in, outs, begin, end, op);
}
HWY_ATTR void ReduceI64(std::span<const int64_t* const> in, std::span<int64_t* const> outs, int64_t begin, int64_t end,
                        ReduceOp op) {
  reduce_any(in, outs, begin, end, op);
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {

HWY_EXPORT(ReduceF32);
HWY_EXPORT(ReduceF64);
HWY_EXPORT(ReduceI64);

// Calls range(begin, end) over [0, count), at once or on this rank's threads and cut at whole cache lines.
template <typename Range>
void over_lines(int64_t count, bool with_team, const Range& range) {
  constexpr int64_t kBlock = 256;  // elements
  constexpr int64_t kGrain = 64;   // blocks: less is not worth a second thread
  if (!with_team) return range(0, count);
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  parallel_for(blocks, kGrain,
               [&](int64_t first, int64_t last) { range(first * kBlock, std::min(last * kBlock, count)); });
}

}  // namespace

template <>
void reduce_in_order<float>(std::span<const float* const> in, std::span<float* const> outs, int64_t count, ReduceOp op,
                            bool with_team) {
  const auto range = HWY_DYNAMIC_DISPATCH(ReduceF32);
  over_lines(count, with_team, [&](int64_t begin, int64_t end) { range(in, outs, begin, end, op); });
}

template <>
void reduce_in_order<double>(std::span<const double* const> in, std::span<double* const> outs, int64_t count,
                             ReduceOp op, bool with_team) {
  const auto range = HWY_DYNAMIC_DISPATCH(ReduceF64);
  over_lines(count, with_team, [&](int64_t begin, int64_t end) { range(in, outs, begin, end, op); });
}

template <>
void reduce_in_order<int64_t>(std::span<const int64_t* const> in, std::span<int64_t* const> outs, int64_t count,
                              ReduceOp op, bool with_team) {
  const auto range = HWY_DYNAMIC_DISPATCH(ReduceI64);
  over_lines(count, with_team, [&](int64_t begin, int64_t end) { range(in, outs, begin, end, op); });
}

}  // namespace farsight
#endif  // HWY_ONCE
