// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"

namespace farsight {
namespace {

struct Size {
  int64_t m, n, k;
};

// Small integers: every order of summation is exact, so equality is demanded.
float entry(int64_t i, int64_t j) { return static_cast<float>((7 * i + 3 * j) % 5 - 2); }

std::vector<float> stored(int64_t rows, int64_t cols, int64_t ld, Transpose trans) {
  const bool t = trans == Transpose::yes;
  std::vector<float> a(static_cast<size_t>((t ? cols : rows) * ld), std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) a[static_cast<size_t>(t ? j * ld + i : i * ld + j)] = entry(i, j);
  }
  return a;
}

TEST(Matmul, EqualsTheDefinitionForAllTransposesStridesAndBetas) {
  for (const Size& s : {Size{1, 1, 1}, {1, 17, 5}, {19, 1, 33}, {7, 6, 0}, {33, 48, 65}}) {
    for (const auto ta : {Transpose::no, Transpose::yes}) {
      for (const auto tb : {Transpose::no, Transpose::yes}) {
        for (const float beta : {0.0F, 1.0F}) {
          const int64_t lda = std::max<int64_t>(1, ta == Transpose::yes ? s.m : s.k) + 3;
          const int64_t ldb = std::max<int64_t>(1, tb == Transpose::yes ? s.k : s.n) + 2, ldc = s.n + 1;
          const auto a = stored(s.m, s.k, lda, ta), b = stored(s.k, s.n, ldb, tb);
          const float fresh = beta == 0.0F ? std::numeric_limits<float>::quiet_NaN() : 3.0F;
          std::vector<float> c(static_cast<size_t>(s.m * ldc), fresh);
          matmul(ta, tb, s.m, s.n, s.k, 2.0F, a.data(), lda, b.data(), ldb, beta, c.data(), ldc);
          for (int64_t i = 0; i < s.m; ++i) {
            for (int64_t j = 0; j < s.n; ++j) {
              float expected = beta == 0.0F ? 0.0F : 3.0F;
              for (int64_t k = 0; k < s.k; ++k) expected += 2.0F * entry(i, k) * entry(k, j);
              ASSERT_EQ(c[static_cast<size_t>(i * ldc + j)], expected) << s.m << " " << s.n << " " << s.k;
            }
            const float gap = c[static_cast<size_t>(i * ldc + s.n)];
            ASSERT_TRUE(std::isnan(fresh) ? std::isnan(gap) : gap == fresh) << "between the rows";
          }
        }
      }
    }
  }
}

TEST(Matmul, ImpossibleSizesAreRefused) {
  std::vector<float> x(16);
  EXPECT_THROW(matmul(Transpose::no, Transpose::no, 2, 2, 4, 1.0F, x.data(), /*lda=*/2, x.data(), 2, 0.0F, x.data(), 2),
               Error);
  EXPECT_NO_THROW(matmul(Transpose::no, Transpose::no, 0, 2, 4, 1.0F, x.data(), 4, x.data(), 2, 0.0F, x.data(), 2));
}

}  // namespace
}  // namespace farsight
