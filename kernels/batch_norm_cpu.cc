// SPDX-License-Identifier: Apache-2.0
#include "kernels/batch_norm_cpu.h"

#include <algorithm>
#include <vector>

#include "kernels/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/batch_norm_cpu.cc"
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace farsight {
namespace HWY_NAMESPACE {

using F64 = hn::ScalableTag<double>;
using OneF64 = hn::CappedTag<double, 1>;

// Sum over rows of term(r, sum), four sums in flight.
template <class D, class Term>
HWY_INLINE hn::Vec<D> SumRows(D d, int64_t rows, const Term& term) {
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    s0 = term(r, s0);
    s1 = term(r + 1, s1);
    s2 = term(r + 2, s2);
    s3 = term(r + 3, s3);
  }
  for (; r < rows; ++r) s0 = term(r, s0);
  return hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
}

// body(d, c) for vectors of columns and then for single ones.
template <class Body>
HWY_INLINE void ForColumns(int64_t cols, const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F64()));
  int64_t c = 0;
  for (; c + lanes <= cols; c += lanes) body(F64(), c);
  for (; c < cols; ++c) body(OneF64(), c);
}

template <class D>
HWY_INLINE hn::Vec<D> Wide(D d, const float* p) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D>(), p));
}

// Means and centred squares of the columns of one block, which the second reading finds in the cache.
HWY_ATTR void BlockMoments(const float* in, int64_t rows, int64_t cols, int64_t stride, double* means,
                           double* squares) {
  ForColumns(cols, [&](auto d, int64_t c) HWY_ATTR {
    const auto sum =
        SumRows(d, rows, [&](int64_t r, auto s) HWY_ATTR { return hn::Add(s, Wide(d, in + r * stride + c)); });
    const auto mean = hn::Div(sum, hn::Set(d, static_cast<double>(rows)));
    const auto square = SumRows(d, rows, [&](int64_t r, auto s) HWY_ATTR {
      const auto v = hn::Sub(Wide(d, in + r * stride + c), mean);
      return hn::MulAdd(v, v, s);
    });
    hn::StoreU(mean, d, means + c);
    hn::StoreU(square, d, squares + c);
  });
}

// sums [2, cols] of dy and dy (in - mean) rstd.
HWY_ATTR void BlockSums(const BatchNormColumns& columns, const float* dy, const float* in, int64_t stride, int64_t rows,
                        int64_t cols, double* sums) {
  ForColumns(cols, [&](auto d, int64_t c) HWY_ATTR {
    const auto mean = hn::LoadU(d, columns.mean + c);
    hn::StoreU(SumRows(d, rows, [&](int64_t r, auto s) HWY_ATTR { return hn::Add(s, Wide(d, dy + r * cols + c)); }), d,
               sums + c);
    const auto product = SumRows(d, rows, [&](int64_t r, auto s) HWY_ATTR {
      return hn::MulAdd(Wide(d, dy + r * cols + c), hn::Sub(Wide(d, in + r * stride + c), mean), s);
    });
    hn::StoreU(hn::Mul(product, hn::LoadU(d, columns.rstd + c)), d, sums + cols + c);
  });
}

// sum = residual + x * factors; factors may be null.
HWY_ATTR void BatchNormSumRow(const float* residual, const float* x, const float* factors, int64_t n, float* sum) {
  for_vectors(n, [&](int64_t i, auto io) HWY_ATTR {
    V32 v = io.load(x + i);
    if (factors != nullptr) v = hn::Mul(v, io.load(factors + i));
    io.store(hn::Add(io.load(residual + i), v), sum + i);
  });
}

// y = (in - high) factor + offset, columns one by one.
HWY_ATTR void ScaleRows(const float* in, int64_t stride, int64_t rows, int64_t cols, const float* high,
                        const float* factor, const float* offset, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    for_vectors(cols, [&](int64_t i, auto io) HWY_ATTR {
      const V32 v = hn::Sub(io.load(in + r * stride + i), io.load(high + i));
      io.store(hn::MulAdd(v, io.load(factor + i), io.load(offset + i)), y + r * cols + i);
    });
  }
}

// d = (in - high) * slope + offset + dy * factor; lines [4, cols]: high, slope, offset, factor.
HWY_ATTR void GradientRow(const BatchNormBackward& t, const float* lines, int64_t row, const float* factors) {
  const float* dy = t.dy + row * t.cols;
  const float* in = t.input + row * t.input_stride;
  float* dresidual = t.dresidual == nullptr ? nullptr : t.dresidual + row * t.dresidual_stride;
  float* dx = t.dx == nullptr ? nullptr : t.dx + row * t.dx_stride;
  for_vectors(t.cols, [&](int64_t i, auto io) HWY_ATTR {
    const V32 v = hn::Sub(io.load(in + i), io.load(lines + i));
    V32 d = hn::MulAdd(v, io.load(lines + t.cols + i), io.load(lines + 2 * t.cols + i));
    d = hn::MulAdd(io.load(dy + i), io.load(lines + 3 * t.cols + i), d);
    if (dresidual != nullptr) accumulate(io, d, t.add_residual, dresidual + i);
    if (dx == nullptr) return;
    if (factors != nullptr) d = hn::Mul(d, io.load(factors + i));
    accumulate(io, d, t.add_x, dx + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace farsight
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace farsight {
namespace {
HWY_EXPORT(BlockMoments);
HWY_EXPORT(BlockSums);
HWY_EXPORT(BatchNormSumRow);
HWY_EXPORT(ScaleRows);
HWY_EXPORT(GradientRow);

// body(first row, rows, block)
template <class Body>
void for_blocks(int64_t rows, int64_t cols, const Body& body) {
  const int64_t step = batch_norm_block_rows(cols);
  parallel_for((rows + step - 1) / step, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) body(b * step, std::min(step, rows - b * step), b);
  });
}

// The mean in two parts: what fp32 holds of it, and the rest.
float high_part(double mean) { return static_cast<float>(mean); }
double low_part(double mean) { return mean - static_cast<double>(high_part(mean)); }

}  // namespace

int64_t batch_norm_block_rows(int64_t cols) { return std::clamp<int64_t>(8192 / std::max<int64_t>(cols, 1), 16, 1024); }

void batch_norm_blocks_cpu(const BatchNormBlocks& a, const DropoutDraw& draw) {
  for_blocks(a.rows, a.cols, [&](int64_t first, int64_t rows, int64_t block) {
    const float* in = a.residual + first * a.residual_stride;
    int64_t stride = a.residual_stride;
    if (a.x != nullptr) {
      DropoutRows factors(draw, a.cols);
      for (int64_t r = first; r < first + rows; ++r) {
        HWY_DYNAMIC_DISPATCH(BatchNormSumRow)
        (a.residual + r * a.residual_stride, a.x + r * a.x_stride, factors.row(r), a.cols, a.sum + r * a.cols);
      }
      in = a.sum + first * a.cols;
      stride = a.cols;
    }
    if (a.means == nullptr) return;
    HWY_DYNAMIC_DISPATCH(BlockMoments)
    (in, rows, a.cols, stride, a.means + block * a.cols, a.squares + block * a.cols);
  });
}

void batch_norm_forward_cpu(const BatchNormColumns& columns, const float* input, int64_t stride, int64_t rows,
                            int64_t cols, const float* bias, float* y) {
  const auto n = static_cast<size_t>(cols);
  std::vector<float> high(n), factor(n), offset(n);
  for (size_t c = 0; c < n; ++c) {
    const double f = columns.rstd[c] * static_cast<double>(columns.weight[c]);
    high[c] = high_part(columns.mean[c]);
    factor[c] = static_cast<float>(f);
    offset[c] = static_cast<float>(static_cast<double>(bias[c]) - low_part(columns.mean[c]) * f);
  }
  for_blocks(rows, cols, [&](int64_t first, int64_t count, int64_t) {
    HWY_DYNAMIC_DISPATCH(ScaleRows)
    (input + first * stride, stride, count, cols, high.data(), factor.data(), offset.data(), y + first * cols);
  });
}

void batch_norm_sums_cpu(const BatchNormColumns& columns, const float* dy, const float* input, int64_t stride,
                         int64_t rows, int64_t cols, double* sums) {
  const int64_t step = batch_norm_block_rows(cols), blocks = (rows + step - 1) / step;
  std::vector<double> partial(static_cast<size_t>(blocks * 2 * cols));
  for_blocks(rows, cols, [&](int64_t first, int64_t count, int64_t block) {
    HWY_DYNAMIC_DISPATCH(BlockSums)
    (columns, dy + first * cols, input + first * stride, stride, count, cols, partial.data() + block * 2 * cols);
  });
  std::fill_n(sums, 2 * cols, 0.0);
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t i = 0; i < 2 * cols; ++i) sums[i] += partial[static_cast<size_t>(b * 2 * cols + i)];
  }
}

// d = weight rstd (dy - mean(dy) - xhat mean(dy xhat))
void batch_norm_backward_cpu(const BatchNormColumns& columns, const BatchNormBackward& t, const DropoutDraw& draw) {
  const auto n = static_cast<size_t>(t.cols);
  std::vector<float> lines(4 * n);
  for (size_t i = 0; i < n; ++i) {
    const double factor = columns.rstd[i] * static_cast<double>(columns.weight[i]);
    const double mean = t.means == nullptr ? 0.0 : t.means[i], product = t.means == nullptr ? 0.0 : t.means[n + i];
    const double slope = -factor * columns.rstd[i] * product;
    lines[i] = high_part(columns.mean[i]);
    lines[n + i] = static_cast<float>(slope);
    lines[3 * n + i] = static_cast<float>(factor);
    lines[2 * n + i] = static_cast<float>(-factor * mean - slope * low_part(columns.mean[i]));
  }
  for_blocks(t.rows, t.cols, [&](int64_t first, int64_t rows, int64_t) {
    DropoutRows factors(draw, t.dx == nullptr ? 0 : t.cols);
    for (int64_t r = first; r < first + rows; ++r) {
      HWY_DYNAMIC_DISPATCH(GradientRow)(t, lines.data(), r, factors.row(r));
    }
  });
}

}  // namespace farsight
#endif  // HWY_ONCE
