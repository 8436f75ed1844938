// SPDX-License-Identifier: Apache-2.0
#include "kernels/norm_cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norm_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

// sum = residual + x * factors; factors may be null.
HWY_ATTR void AddRow(const float* residual, const float* x, const float* factors, int64_t n, float* sum) {
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    V32 v = io.load(x + i);
    if (factors != nullptr) v = hn::Mul(v, io.load(factors + i));
    io.store(hn::Add(io.load(residual + i), v), sum + i);
  });
}

HWY_ATTR float RowMean(const float* r, int64_t n) {
  V32 sum = hn::Zero(F32());
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR { sum = hn::Add(sum, io.load(r + i)); });
  return sum_lanes(sum) / static_cast<float>(n);
}

// mean((r - mean)^2)
HWY_ATTR float RowSquare(const float* r, float mean, int64_t n) {
  V32 sum = hn::Zero(F32());
  const V32 m = splat(mean);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 v = io.keep(hn::Sub(io.load(r + i), m));
    sum = hn::MulAdd(v, v, sum);
  });
  return sum_lanes(sum) / static_cast<float>(n);
}

HWY_ATTR void ScaleRow(const float* r, float mean, float rstd, const float* weight, const float* bias, int64_t n,
                       float* y) {
  const V32 m = splat(mean), s = splat(rstd);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 v = hn::Mul(hn::Mul(hn::Sub(io.load(r + i), m), s), io.load(weight + i));
    io.store(bias == nullptr ? v : hn::Add(v, io.load(bias + i)), y + i);
  });
}

HWY_ATTR void ForwardRow(const NormSize& size, const NormForward& a, const float* factors, int64_t row) {
  const int64_t cols = size.groups * size.width;
  const float* r = a.residual + row * a.residual_stride;
  if (a.x != nullptr) {
    AddRow(r, a.x + row * a.x_stride, factors, cols, a.sum + row * cols);
    r = a.sum + row * cols;
  }
  for (int64_t g = 0; g < size.groups; ++g, r += size.width) {
    const float mean = size.centred ? RowMean(r, size.width) : 0.0F;
    const float rstd = 1.0F / std::sqrt(RowSquare(r, mean, size.width) + a.eps);
    a.rstd[row * size.groups + g] = rstd;
    if (size.centred) a.mean[row * size.groups + g] = mean;
    ScaleRow(r, mean, rstd, a.weight, a.bias, size.width, a.y + row * cols + g * size.width);
  }
}

struct RowSums {
  float g, gx;  // means of dy w and of dy w xhat
};

// Also adds this row to the partial sums of the weight gradients.
HWY_ATTR RowSums GradientSums(const float* dy, const float* r, const float* weight, float mean, float rstd, int64_t n,
                              float* dweight, float* dbias) {
  V32 g = hn::Zero(F32()), gx = g;
  const V32 m = splat(mean), s = splat(rstd);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 d = io.load(dy + i);
    const V32 xhat = hn::Mul(hn::Sub(io.load(r + i), m), s);
    const V32 dw = hn::Mul(d, io.load(weight + i));  // zero beyond the row's end, as d is
    g = hn::Add(g, dw);
    gx = hn::MulAdd(dw, io.keep(xhat), gx);
    io.store(hn::MulAdd(d, xhat, io.load(dweight + i)), dweight + i);
    if (dbias != nullptr) io.store(hn::Add(d, io.load(dbias + i)), dbias + i);
  });
  return {sum_lanes(g) / static_cast<float>(n), sum_lanes(gx) / static_cast<float>(n)};
}

// Where the gradient of one group goes; null pointers: nowhere, no second term, no dropout.
struct RowTargets {
  const float* dsum;
  const float* factors;
  float* dresidual;
  float* dx;
};

// d = rstd (dy w - mean(dy w) - xhat mean(dy w xhat)) + dsum
HWY_ATTR void GradientRow(const NormBackward& a, const float* dy, const float* r, float mean, float rstd, RowSums sums,
                          int64_t n, const RowTargets& t) {
  const V32 m = splat(mean), s = splat(rstd), g = splat(sums.g), gx = splat(sums.gx);
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    const V32 xhat = hn::Mul(hn::Sub(io.load(r + i), m), s);
    const V32 dw = hn::Mul(io.load(dy + i), io.load(a.weight + i));
    V32 d = hn::Mul(s, hn::NegMulAdd(xhat, gx, hn::Sub(dw, g)));
    if (t.dsum != nullptr) d = hn::Add(d, io.load(t.dsum + i));
    if (t.dresidual != nullptr) accumulate(io, d, a.add_residual, t.dresidual + i);
    if (t.dx == nullptr) return;
    if (t.factors != nullptr) d = hn::Mul(d, io.load(t.factors + i));
    accumulate(io, d, a.add_x, t.dx + i);
  });
}

HWY_ATTR void BackwardRow(const NormSize& size, const NormBackward& a, const float* factors, int64_t row,
                          float* dweight, float* dbias) {
  const int64_t n = size.width;
  for (int64_t g = 0; g < size.groups; ++g) {
    const int64_t at = row * size.groups * n + g * n;
    const float* r = a.input + row * a.input_stride + g * n;
    const float rstd = a.rstd[row * size.groups + g];
    const float mean = size.centred ? a.mean[row * size.groups + g] : 0.0F;
    RowSums sums = GradientSums(a.dy + at, r, a.weight, mean, rstd, n, dweight, dbias);
    if (!size.centred) sums.g = 0.0F;
    const RowTargets targets{a.dsum == nullptr ? nullptr : a.dsum + at, factors == nullptr ? nullptr : factors + g * n,
                             a.dresidual == nullptr ? nullptr : a.dresidual + row * a.dresidual_stride + g * n,
                             a.dx == nullptr ? nullptr : a.dx + row * a.dx_stride + g * n};
    GradientRow(a, a.dy + at, r, mean, rstd, sums, n, targets);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(ForwardRow);
HWY_EXPORT(BackwardRow);

constexpr int64_t kRowBlock = 32;

}  // namespace

void norm_forward_cpu(const NormSize& size, const NormForward& args, const DropoutDraw& draw) {
  const int64_t cols = size.groups * size.width;
  parallel_for(size.rows, 8192 / (cols + 1) + 1, [&](int64_t begin, int64_t end) {
    DropoutRows factors(draw, cols);
    for (int64_t r = begin; r < end; ++r) HWY_DYNAMIC_DISPATCH(ForwardRow)(size, args, factors.row(r), r);
  });
}

int64_t norm_blocks(int64_t rows) { return (rows + kRowBlock - 1) / kRowBlock; }

void norm_backward_cpu(const NormSize& size, const NormBackward& args, const DropoutDraw& draw) {
  parallel_for(norm_blocks(size.rows), 1, [&](int64_t begin, int64_t end) {
    DropoutRows factors(draw, size.groups * size.width);
    for (int64_t block = begin; block < end; ++block) {
      float* dweight = args.dweight + block * size.width;
      float* dbias = args.dbias == nullptr ? nullptr : args.dbias + block * size.width;
      std::fill_n(dweight, size.width, 0.0F);
      if (dbias != nullptr) std::fill_n(dbias, size.width, 0.0F);
      const int64_t last = std::min(size.rows, (block + 1) * kRowBlock);
      for (int64_t r = block * kRowBlock; r < last; ++r) {
        HWY_DYNAMIC_DISPATCH(BackwardRow)(size, args, factors.row(r), r, dweight, dbias);
      }
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
