// SPDX-License-Identifier: Apache-2.0
#include "kernels/gradient_norm.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gradient_norm.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

HWY_ATTR double BlockSquares(const float* x, int64_t n) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> half;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d), b = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto u = hn::PromoteTo(d, hn::LoadU(half, x + i));
    const auto v = hn::PromoteTo(d, hn::LoadU(half, x + i + lanes));
    a = hn::MulAdd(u, u, a);
    b = hn::MulAdd(v, v, b);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

// NaN if there is one: an element that is not equal to itself sticks.
HWY_ATTR double BlockMagnitude(const float* x, int64_t n) {
  V32 largest = hn::Zero(F32()), nan = largest;
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 v = hn::Abs(io.load(x + i));
    largest = hn::Max(largest, v);
    nan = hn::IfThenElse(hn::Eq(v, v), nan, v);
  });
  const float bad = sum_lanes(nan);
  return static_cast<double>(bad == bad ? max_lanes(largest) : bad);
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(BlockSquares);
HWY_EXPORT(BlockMagnitude);

constexpr int64_t kBlock = 16384;

// reduce(block, count) of every block, in order.
template <class Reduce>
std::vector<double> per_block(std::span<const float> values, const Reduce& reduce) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<double> results(static_cast<size_t>((n + kBlock - 1) / kBlock));
  parallel_for(static_cast<int64_t>(results.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      results[static_cast<size_t>(b)] = reduce(values.data() + b * kBlock, std::min(kBlock, n - b * kBlock));
    }
  });
  return results;
}

}  // namespace

double sum_of_squares(std::span<const float> values) {
  double sum = 0.0;
  for (const double s :
       per_block(values, [](const float*x, int64_t n) { return HWY_DYNAMIC_DISPATCH(BlockSquares)(x, n); })) {
    sum += s;
  }
  return sum;
}

double largest_magnitude(std::span<const float> values) {
  double largest = 0.0;
  for (const double m :
       per_block(values, [](const float*x, int64_t n) { return HWY_DYNAMIC_DISPATCH(BlockMagnitude)(x, n); })) {
    if (std::isnan(m)) return m;
    largest = std::max(largest, m);
  }
  return largest;
}

namespace {

double norm_on_device(const Tensor& values, CudaReduction reduction) {
  const int64_t blocks = cuda_norm_blocks(values.numel());
  const Tensor partial = Tensor::empty({blocks}, DType::f64), result = Tensor::empty({1}, DType::f64);
  const CudaSlabNorm a{values.numel(),
                       static_cast<const float*>(values.raw()),
                       reduction,
                       blocks,
                       static_cast<double*>(partial.raw()),
                       static_cast<double*>(result.raw()),
                       1.0,
                       /*add=*/false,
                       nullptr};
  cuda_device().run("gradient norm", &CudaBackend::slab_norm, a);
  return *result.to(Device::cpu).data<double>();
}

}  // namespace

double sum_of_squares(const Tensor& values) {
  if (values.device() == Device::cpu) return sum_of_squares(values.span<float>());
  return norm_on_device(values, CudaReduction::squares);
}

double largest_magnitude(const Tensor& values) {
  if (values.device() == Device::cpu) return largest_magnitude(values.span<float>());
  return norm_on_device(values, CudaReduction::magnitude);
}

double clip_factor(double norm, double max_norm) {
  if (max_norm <= 0.0) return 1.0;
  return std::min(1.0, max_norm / (norm + 1e-6));
}

}  // namespace farsight
#endif  // HWY_ONCE
