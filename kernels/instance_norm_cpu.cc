// SPDX-License-Identifier: Apache-2.0
#include "kernels/instance_norm_cpu.h"

#include <cmath>

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/instance_norm_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

using F64 = hn::ScalableTag<double>;
using V64 = hn::Vec<F64>;

// Sum of term(x[i]) in fp64, four sums in flight.
template <class Term>
HWY_INLINE double SumTerms(const float* x, int64_t n, const Term& term) {
  const F64 d;
  const hn::Rebind<float, F64> half;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V64 s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  const auto at = [&](int64_t i) HWY_ATTR { return hn::PromoteTo(d, hn::LoadU(half, x + i)); };
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = term(at(i), s0);
    s1 = term(at(i + lanes), s1);
    s2 = term(at(i + 2 * lanes), s2);
    s3 = term(at(i + 3 * lanes), s3);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  const hn::CappedTag<double, 1> one;
  for (; i < n; ++i) sum = hn::GetLane(term(hn::Set(one, static_cast<double>(x[i])), hn::Set(one, sum)));
  return sum;
}

HWY_ATTR double RowSum(const float* x, int64_t n) {
  return SumTerms(x, n, [](auto v, auto sum) HWY_ATTR { return hn::Add(v, sum); });
}

HWY_ATTR double RowSquares(const float* x, double mean, int64_t n) {
  return SumTerms(x, n, [mean](auto v, auto sum) HWY_ATTR {
    const auto c = hn::Sub(v, hn::Set(hn::DFromV<decltype(v)>(), mean));
    return hn::MulAdd(c, c, sum);
  });
}

// y = (x - mean) factor + offset. The part of the mean that fp32 does not hold goes into the offset.
HWY_ATTR void ScaleRow(const float* x, double mean, double factor, double offset, int64_t n, float* y) {
  const auto high = static_cast<float>(mean);
  const V32 m = splat(high), f = splat(static_cast<float>(factor));
  const V32 o = splat(static_cast<float>(offset - (mean - static_cast<double>(high)) * factor));
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR { io.store(hn::MulAdd(hn::Sub(io.load(x + i), m), f, o), y + i); });
}

HWY_ATTR void ScaleGradient(const float* dy, float factor, int64_t n, bool add, float* dx) {
  const V32 f = splat(factor);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR { accumulate(io, hn::Mul(io.load(dy + i), f), add, dx + i); });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(RowSum);
HWY_EXPORT(RowSquares);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(ScaleGradient);

int64_t grain(int64_t length) { return 8192 / (length + 1) + 1; }

struct Moments {
  double mean = 0.0, std = 1.0;
};

Moments row_moments(const float* x, int64_t n, double eps) {
  if (n == 0) return {};
  const double mean = HWY_DYNAMIC_DISPATCH(RowSum)(x, n) / static_cast<double>(n);
  return {mean, std::sqrt(HWY_DYNAMIC_DISPATCH(RowSquares)(x, mean, n) / static_cast<double>(n) + eps)};
}

Moments observed_moments(const float* x, const uint8_t* observed, int64_t n, double eps) {
  double sum = 0.0, squares = 0.0, count = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    sum += observed[i] != 0 ? static_cast<double>(x[i]) : 0.0;
    count += observed[i] != 0 ? 1.0 : 0.0;
  }
  if (count == 0.0) return {};
  const double mean = sum / count;
  for (int64_t i = 0; i < n; ++i) {
    const double c = observed[i] != 0 ? static_cast<double>(x[i]) - mean : 0.0;
    squares += c * c;
  }
  return {mean, std::sqrt(squares / count + eps)};
}

Moments last_value(const float* x, const uint8_t* observed, int64_t n) {
  int64_t last = n - 1;
  while (last >= 0 && observed != nullptr && observed[last] == 0) --last;
  return {last < 0 ? 0.0 : static_cast<double>(x[last]), 1.0};
}

Moments moments_of(const InstanceNormRows& a, const float* x, const uint8_t* observed, double eps) {
  if (a.last) return last_value(x, observed, a.length);
  return observed == nullptr ? row_moments(x, a.length, eps) : observed_moments(x, observed, a.length, eps);
}

// Adds to a row's shares; a value that was not observed has none.
struct Shares {
  double gamma = 0.0, beta = 0.0;
};

Shares row_shares(const float* x, const uint8_t* observed, const float* dy, double mean, double rstd, int64_t n) {
  Shares s;
  for (int64_t i = 0; i < n; ++i) {
    if (observed != nullptr && observed[i] == 0) continue;
    s.gamma += static_cast<double>(dy[i]) * (static_cast<double>(x[i]) - mean) * rstd;
    s.beta += static_cast<double>(dy[i]);
  }
  return s;
}

void observed_gradient(const float* dy, const uint8_t* observed, float factor, int64_t n, bool add, float* dx) {
  for (int64_t i = 0; i < n; ++i) dx[i] = (observed[i] != 0 ? factor * dy[i] : 0.0F) + (add ? dx[i] : 0.0F);
}

}  // namespace

void instance_norm_forward_cpu(const InstanceNormRows& a, float eps, float* y, float* mean, float* std,
                               double* statistics) {
  const int64_t n = a.length;
  parallel_for(a.rows, grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = a.x + r * a.x_stride;
      const uint8_t* observed = a.observed == nullptr ? nullptr : a.observed + r * n;
      const Moments m = moments_of(a, x, observed, static_cast<double>(eps));
      statistics[2 * r] = m.mean;
      statistics[2 * r + 1] = 1.0 / m.std;
      mean[r] = static_cast<float>(m.mean);
      std[r] = static_cast<float>(m.std);
      const int64_t c = r % a.channels;
      const double factor = (a.gamma == nullptr ? 1.0 : static_cast<double>(a.gamma[c])) / m.std;
      const double offset = a.beta == nullptr ? 0.0 : static_cast<double>(a.beta[c]);
      HWY_DYNAMIC_DISPATCH(ScaleRow)(x, m.mean, factor, offset, n, y + r * n);
      for (int64_t i = 0; observed != nullptr && i < n; ++i) {
        if (observed[i] == 0) y[r * n + i] = 0.0F;
      }
    }
  });
}

void instance_norm_backward_cpu(const InstanceNormRows& a, const double* statistics, const float* dy, float* dgamma,
                                float* dbeta, bool add, float* dx, int64_t dx_stride) {
  const int64_t n = a.length;
  parallel_for(a.rows, grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const uint8_t* observed = a.observed == nullptr ? nullptr : a.observed + r * n;
      const double mean = statistics[2 * r], rstd = statistics[2 * r + 1];
      if (dgamma != nullptr) {
        const Shares s = row_shares(a.x + r * a.x_stride, observed, dy + r * n, mean, rstd, n);
        dgamma[r] = static_cast<float>(s.gamma);
        dbeta[r] = static_cast<float>(s.beta);
      }
      if (dx == nullptr) continue;
      const double gamma = a.gamma == nullptr ? 1.0 : static_cast<double>(a.gamma[r % a.channels]);
      const auto factor = static_cast<float>(gamma * rstd);
      if (observed != nullptr) {
        observed_gradient(dy + r * n, observed, factor, n, add, dx + r * dx_stride);
      } else {
        HWY_DYNAMIC_DISPATCH(ScaleGradient)(dy + r * n, factor, n, add, dx + r * dx_stride);
      }
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
