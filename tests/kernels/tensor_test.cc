// SPDX-License-Identifier: Apache-2.0
#include "kernels/tensor.h"

#include <numeric>

#include <gtest/gtest.h>

#include "kernels/error.h"

namespace farsight {
namespace {

Tensor counting(Shape shape) {
  const Tensor t = Tensor::empty(std::move(shape));
  std::iota(t.data<float>(), t.data<float>() + t.numel(), 0.0F);
  return t;
}

std::vector<float> elements(const Tensor& t) {
  const Tensor c = t.clone();
  const auto s = c.span<float>();
  return {s.begin(), s.end()};
}

TEST(TensorShape, SizesRowsAndBytes) {
  const Tensor t = Tensor::zeros({2, 3, 4}, DType::f64);
  EXPECT_EQ(t.numel(), 24);
  EXPECT_EQ(t.rows(), 6);
  EXPECT_EQ(t.cols(), 4);
  EXPECT_EQ(t.dim(-1), 4);
  EXPECT_EQ(t.bytes(), 192);
  EXPECT_EQ(Tensor::empty({}).numel(), 1);
  EXPECT_EQ(Tensor::empty({3, 0}).rows(), 0);
  EXPECT_EQ(Tensor::empty({0, 3}).numel(), 0);
  EXPECT_THROW(t.dim(3), Error);
  EXPECT_THROW(t.dim(-4), Error);
}

TEST(TensorShape, ImpossibleOnesAreRefused) {
  EXPECT_THROW(Tensor::empty({-1}), Error);
  EXPECT_THROW(Tensor::empty({int64_t{1} << 40, int64_t{1} << 40}), Error);
}

TEST(TensorViews, LeadingRangeIsContiguousAndShared) {
  const Tensor t = counting({4, 2, 3});
  const Tensor part = t.narrow(1, 2);
  EXPECT_EQ(part.shape(), (Shape{2, 2, 3}));
  EXPECT_TRUE(part.contiguous());
  EXPECT_TRUE(part.shares_storage(t));
  EXPECT_EQ(*part.data<float>(), 6.0F);
  EXPECT_EQ(counting({5}).narrow(2, 2).span<float>()[1], 3.0F);
  EXPECT_THROW(t.narrow(3, 2), Error);
  EXPECT_THROW(t.narrow(-1, 2), Error);
}

TEST(TensorViews, ColumnRangeKeepsTheRowStride) {
  const Tensor t = counting({3, 5});
  const Tensor columns = t.narrow_last(1, 2);
  EXPECT_EQ(columns.row_stride(), 5);
  EXPECT_FALSE(columns.contiguous());
  EXPECT_EQ(elements(columns), (std::vector<float>{1, 2, 6, 7, 11, 12}));
  EXPECT_EQ(elements(columns.narrow(1, 2)), (std::vector<float>{6, 7, 11, 12}));
  EXPECT_EQ(elements(columns.narrow_last(1, 1)), (std::vector<float>{2, 7, 12}));
  EXPECT_THROW(columns.span<float>(), Error);
  EXPECT_THROW(columns.view({6}), Error);
  EXPECT_THROW(t.narrow_last(4, 2), Error);
  columns.fill_zero();
  EXPECT_EQ(elements(t), (std::vector<float>{0, 0, 0, 3, 4, 5, 0, 0, 8, 9, 10, 0, 0, 13, 14}));
}

TEST(TensorViews, ReshapeKeepsElements) {
  const Tensor t = counting({2, 6});
  EXPECT_EQ(elements(t.view({3, 4})), elements(t));
  EXPECT_EQ(t.view({3, 4}).row_stride(), 4);
  EXPECT_THROW(t.view({5}), Error);
  EXPECT_EQ(t.narrow(0, 1).narrow_last(2, 3).view({3, 1}).rows(), 3) << "one row is contiguous at any stride";
}

TEST(TensorAccess, WrongTypesAndEmptyHandlesAreRefused) {
  EXPECT_THROW(Tensor::zeros({1}).data<double>(), Error);
  EXPECT_THROW(Tensor().data<float>(), Error);
  EXPECT_THROW(expect_shape("op", "x", Tensor(), {1}), Error);
  EXPECT_THROW(expect_shape("op", "x", Tensor::zeros({2}), {1}), Error);
  EXPECT_NO_THROW(expect_shape("op", "x", Tensor::zeros({2}), {2}));
}

TEST(TensorMemory, CopiesShareAndClonesDoNot) {
  const Tensor a = counting({3});
  const Tensor shared = a;
  const Tensor own = a.clone();
  *a.data<float>() = 9.0F;
  EXPECT_EQ(*shared.data<float>(), 9.0F);
  EXPECT_EQ(*own.data<float>(), 0.0F);
  EXPECT_FALSE(own.shares_storage(a));
}

}  // namespace
}  // namespace farsight
