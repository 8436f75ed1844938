// SPDX-License-Identifier: Apache-2.0
#include "kernels/totals.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/totals.cc"
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

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(BlockSquares);

constexpr int64_t kBlock = 16384;

double block_sum(const float* x, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  return sum;
}

// Sum over the blocks, in order, of reduce(block, count).
template <class Reduce>
double over_blocks(std::span<const float> values, const Reduce& reduce) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<double> results(static_cast<size_t>((n + kBlock - 1) / kBlock));
  parallel_for(static_cast<int64_t>(results.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      results[static_cast<size_t>(b)] = reduce(values.data() + b * kBlock, std::min(kBlock, n - b * kBlock));
    }
  });
  return std::accumulate(results.begin(), results.end(), 0.0);
}

void check_total(const char* op, const Tensor& values, const Tensor& total) {
  if (total.dtype() == DType::f64 && total.numel() == 1 && total.device() == values.device()) return;
  fail(ErrorKind::internal, "{}: values on {}, the total is {} {} on {}", op, to_string(values.device()),
       to_string(total.dtype()), to_string(total.shape()), to_string(total.device()));
}

void add(const Tensor& values, bool squares, double weight, const Tensor& total, const Tensor& rounded) {
  check_total("total", values, total);
  if (values.device() == Device::cuda) {
    const int64_t blocks = cuda_sum_blocks(values.numel());
    const Tensor partial = Tensor::empty({blocks}, DType::f64);
    const CudaSum a{values.numel(),
                    static_cast<const float*>(values.raw()),
                    squares,
                    blocks,
                    static_cast<double*>(partial.raw()),
                    weight,
                    static_cast<double*>(total.raw()),
                    static_cast<float*>(rounded.raw())};
    cuda_device().run("total", &CudaBackend::add_sum, a);
    return;
  }
  const auto all = values.span<float>();
  const double sum =
      squares ? over_blocks(all, [](const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(BlockSquares)(x, n); })
              : over_blocks(all, block_sum);
  double& to = *total.data<double>();
  to += weight * sum;
  if (rounded.defined()) *rounded.data<float>() = static_cast<float>(to);
}

}  // namespace

void add_sum(const Tensor& values, double weight, const Tensor& total, const Tensor& rounded) {
  add(values, /*squares=*/false, weight, total, rounded);
}

void add_squares(const Tensor& values, double weight, const Tensor& total) {
  add(values, /*squares=*/true, weight, total, {});
}

void add_total(const Tensor& other, const Tensor& total) {
  check_total("total", other, total);
  check_total("total", total, other);
  if (total.device() == Device::cpu) {
    *total.data<double>() += *other.data<double>();
    return;
  }
  const CudaAddTotal a{static_cast<const double*>(other.raw()), static_cast<double*>(total.raw())};
  cuda_device().run("total", &CudaBackend::add_total, a);
}

double clip_factor(double norm, double max_norm) {
  if (max_norm <= 0.0) return 1.0;
  return std::min(1.0, max_norm / (norm + 1e-6));
}

void update_gate(const Tensor& totals, double max_norm, const Tensor& gate) {
  if (totals.device() == Device::cuda) {
    const CudaUpdateGate a{totals.numel(), static_cast<const double*>(totals.raw()), max_norm,
                           static_cast<float*>(gate.raw())};
    cuda_device().run("update gate", &CudaBackend::update_gate, a);
    return;
  }
  const auto all = totals.span<double>();
  const bool finite = std::all_of(all.begin(), all.end(), [](double total) { return std::isfinite(total); });
  *gate.data<float>() = finite ? static_cast<float>(clip_factor(std::sqrt(all.back()), max_norm))
                               : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace farsight
#endif  // HWY_ONCE
