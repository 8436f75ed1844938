// SPDX-License-Identifier: Apache-2.0
// Products with GELU in their epilogue, which only a device has, in bf16.
#include <numbers>
#include <random>

#include "kernels/error.h"
#include "kernels/matmul.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

const double kRoot = std::sqrt(2.0 / std::numbers::pi);
double gelu_of(double x) { return 0.5 * x * (1.0 + std::tanh(kRoot * (x + 0.044715 * x * x * x))); }
double slope_of(double x) { return (gelu_of(x + 1e-5) - gelu_of(x - 1e-5)) / 2e-5; }

constexpr int64_t kMargin = 8;
constexpr float kUntouched = 77.0F;

// Columns between two margins that nobody may write.
struct Framed {
  Tensor all, inner;

  Framed(int64_t rows, int64_t cols, int64_t margin) : all(Tensor::empty({rows, cols + 2 * margin}, element())) {
    fill(all, kUntouched);
    inner = all.narrow_last(margin, cols);
  }
  Framed(const Vec& values, int64_t rows, int64_t cols, int64_t margin) : Framed(rows, cols, margin) {
    copy_rows(to_tensor(values, {rows, cols}), inner);
  }
  bool intact() const {
    const int64_t margin = (all.cols() - inner.cols()) / 2;
    for (const int64_t begin : {int64_t{0}, all.cols() - margin}) {
      for (const double v : to_vec(all.narrow_last(begin, margin))) {
        if (v != static_cast<double>(kUntouched)) return false;
      }
    }
    return true;
  }
};

Vec transposed(const Vec& v, int64_t rows, int64_t cols) {
  Vec t(v.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) t[static_cast<size_t>(c * rows + r)] = v[static_cast<size_t>(r * cols + c)];
  }
  return t;
}

// A product of random sizes and strides, with its fp64 value.
struct Problem {
  Transpose ta, tb;
  int64_t m, n, k;
  Vec bias, sums;  // sums: with bias
  Framed a, b;
  Tensor shift;

  static Vec made(uint64_t seed, int64_t count) { return random_vec(seed, count, 0.5); }
  static Framed stored(const Vec& v, int64_t rows, int64_t cols, Transpose trans, int64_t margin) {
    return trans == Transpose::yes ? Framed(transposed(v, rows, cols), cols, rows, margin)
                                   : Framed(v, rows, cols, margin);
  }
  Problem(uint64_t seed, Transpose trans_a, Transpose trans_b, int64_t m_, int64_t n_, int64_t k_, bool with_bias,
          int64_t margin)
      : ta(trans_a),
        tb(trans_b),
        m(m_),
        n(n_),
        k(k_),
        bias(with_bias ? made(seed + 2, n) : Vec{}),
        a(stored(made(seed, m * k), m, k, ta, margin)),
        b(stored(made(seed + 1, k * n), k, n, tb, margin)),
        shift(with_bias ? to_tensor(bias, {n}) : Tensor()) {
    const Vec av = made(seed, m * k), bv = made(seed + 1, k * n);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double s = with_bias ? bias[static_cast<size_t>(j)] : 0.0;
        for (int64_t l = 0; l < k; ++l) s += av[static_cast<size_t>(i * k + l)] * bv[static_cast<size_t>(l * n + j)];
        sums.push_back(s);
      }
    }
  }
};

// Every element within 2^-8 of itself (one rounding to bf16 is 2^-9) and a little for the sums.
void expect_rounded(const Vec& actual, const Vec& expected, const char* what) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], std::abs(expected[i]) * 0x1p-8 + 1e-3) << what << " " << i;
  }
}

class MatmulGelu : public OnEveryTarget {
 protected:
  bool ready() const { return GetParam() == kCudaBf16; }
};
INSTANTIATE_TEST_SUITE_P(Targets, MatmulGelu, ::testing::ValuesIn(targets()), target_name);

TEST_P(MatmulGelu, EqualsTheDefinitionForAllTransposesStridesAndSizes) {
  if (!ready()) return;
  std::mt19937 random(7);
  const auto multiple = [&](unsigned most) { return 8 * static_cast<int64_t>(1 + random() % most); };
  for (int round = 0; round < 24; ++round) {
    const auto ta = Transpose{(round & 1) != 0}, tb = Transpose{(round & 2) != 0};
    const bool with_bias = (round & 4) != 0;
    // Rows of what is not transposed are free.
    const int64_t m = ta == Transpose::yes ? multiple(4) : 1 + static_cast<int64_t>(random() % 30);
    const int64_t n = multiple(5), k = multiple(6), margin = kMargin * (round % 3);
    SCOPED_TRACE(fmt::format("round {}: {} x {} x {}, margin {}", round, m, n, k, margin));
    const auto seed = static_cast<uint64_t>(100 * round);
    const Problem p(seed, ta, tb, m, n, k, with_bias, margin);
    const Framed pre(m, n, 2 * margin), c(m, n, margin);
    matmul_gelu(ta, tb, p.a.inner, p.b.inner, p.shift, pre.inner, c.inner);
    Vec values = p.sums;
    for (auto& v : values) v = gelu_of(v);
    expect_rounded(to_vec(pre.inner), p.sums, "pre");
    expect_rounded(to_vec(c.inner), values, "gelu");

    const Problem q(seed + 50, ta, tb, m, n, k, /*with_bias=*/false, margin);
    const Framed d(m, n, margin);
    matmul_gelu_gradient(ta, tb, q.a.inner, q.b.inner, pre.inner, d.inner);
    const Vec x = to_vec(pre.inner);
    Vec slopes = q.sums;
    for (size_t i = 0; i < slopes.size(); ++i) slopes[i] *= slope_of(x[i]);
    expect_rounded(to_vec(d.inner), slopes, "gradient");
    EXPECT_TRUE(pre.intact() && c.intact() && d.intact()) << "written between the rows";
  }
}

// GELU far from zero, where its derivative is 0 or 1, and of the small.
TEST_P(MatmulGelu, FollowsTheFunctionEverywhere) {
  if (!ready()) return;
  Vec x;
  for (int i = 0; i < 512; ++i) x.push_back(rounded((i - 256) / 16.0));
  const Tensor a = to_tensor(x, {64, 8});
  Vec one(64, 0.0);
  for (size_t i = 0; i < 8; ++i) one[9 * i] = 1.0;
  const Tensor identity = to_tensor(one, {8, 8}), ones = to_tensor(Vec(512, 1.0), {64, 8});
  const Tensor pre = Tensor::empty({64, 8}, element()), y = Tensor::empty({64, 8}, element());
  matmul_gelu(Transpose::no, Transpose::no, a, identity, {}, pre, y);
  EXPECT_EQ(to_vec(pre), x);
  const Tensor slopes = Tensor::empty({64, 8}, element());
  matmul_gelu_gradient(Transpose::no, Transpose::no, ones, identity, pre, slopes);
  const Vec values = to_vec(y), slope = to_vec(slopes);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(values[i], gelu_of(x[i]), std::abs(gelu_of(x[i])) * 0x1p-8 + 2e-4) << x[i];
    EXPECT_NEAR(slope[i], slope_of(x[i]), std::abs(slope_of(x[i])) * 0x1p-8 + 2e-4) << x[i];
  }
}

TEST_P(MatmulGelu, WhatTheLibraryCannotTakeIsRefused) {
  const auto tensor = [](int64_t rows, int64_t cols, int64_t margin = 0) {
    return to_tensor(Vec(static_cast<size_t>(rows * cols), 1.0), {rows, cols}, margin);
  };
  const auto refused = [](const Tensor& a, const Tensor& b, const Tensor& pre, const Tensor& c) {
    EXPECT_THROW(matmul_gelu(Transpose::no, Transpose::no, a, b, {}, pre, c), Error);
    EXPECT_THROW(matmul_gelu_gradient(Transpose::no, Transpose::no, a, b, pre, c), Error);
  };
  const Tensor a = tensor(4, 8), b = tensor(8, 16), c = tensor(4, 16);
  if (!ready()) {  // fp32, or the CPU
    EXPECT_FALSE(takes_gelu(a));
    return refused(a, b, c, c);
  }
  EXPECT_TRUE(takes_gelu(a));
  EXPECT_FALSE(takes_gelu(tensor(4, 8, 1)));
  EXPECT_FALSE(takes_gelu(tensor(4, 12))) << "rows too close";
  EXPECT_FALSE(takes_gelu(tensor(4, 16).narrow_last(4, 8))) << "begins between";
  refused(tensor(4, 8, 1), b, c, c);
  refused(a, tensor(8, 16, 3), c, c);
  refused(a, b, tensor(4, 16, 4), c);
  refused(a, b, c, tensor(4, 16, 2));
  refused(a, b, tensor(4, 24), c);
  refused(a, b, tensor(5, 16), c);
  refused(a, tensor(8, 12), tensor(4, 12), tensor(4, 12));
}

}  // namespace
}  // namespace farsight
