// SPDX-License-Identifier: Apache-2.0
#include "kernels/tensor.h"

#include <cstring>

#include "kernels/error.h"

namespace farsight {

int64_t count_of(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) {
    if (d < 0 || __builtin_mul_overflow(n, d, &n))
      fail(ErrorKind::internal, "tensor: shape {} is not possible", to_string(shape));
  }
  return n;
}

int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::u16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

const char* to_string(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::bf16:
      return "bf16";
    case DType::i64:
      return "i64";
    case DType::i32:
      return "i32";
    case DType::u16:
      return "u16";
    case DType::u8:
      return "u8";
  }
  return "?";
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Tensor Tensor::empty(Shape shape, DType dtype, MemoryTag tag) {
  Tensor t;
  const int64_t bytes = count_of(shape) * size_of(dtype);
  void* pointer = host_allocator().allocate(bytes, tag);
  t.storage_ = std::shared_ptr<void>(pointer, [](void* p) { host_allocator().release(p); });
  t.base_ = static_cast<std::byte*>(pointer);
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  t.tag_ = tag;
  t.row_stride_ = t.cols();
  return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, MemoryTag tag) {
  Tensor t = empty(std::move(shape), dtype, tag);
  t.fill_zero();
  return t;
}

int64_t Tensor::dim(int64_t i) const {
  const int64_t index = i < 0 ? i + rank() : i;
  if (index < 0 || index >= rank()) fail(ErrorKind::internal, "tensor {}: no dimension {}", to_string(shape_), i);
  return shape_[static_cast<size_t>(index)];
}

int64_t Tensor::numel() const {
  int64_t n = 1;
  for (const int64_t d : shape_) n *= d;
  return n;
}

int64_t Tensor::cols() const { return shape_.empty() ? 1 : shape_.back(); }
int64_t Tensor::rows() const { return cols() == 0 ? 0 : numel() / cols(); }

Tensor Tensor::view(Shape shape) const {
  if (count_of(shape) != numel()) {
    fail(ErrorKind::internal, "tensor {}: cannot be viewed as {}", to_string(shape_), to_string(shape));
  }
  check_contiguous();
  Tensor t = *this;
  t.shape_ = std::move(shape);
  t.row_stride_ = t.cols();
  return t;
}

Tensor Tensor::narrow(int64_t begin, int64_t count) const {
  if (rank() == 0 || begin < 0 || count < 0 || begin + count > dim(0)) {
    fail(ErrorKind::internal, "tensor {}: cannot narrow to [{}, {})", to_string(shape_), begin, begin + count);
  }
  Tensor t = *this;
  const int64_t rows_per_entry = rank() == 1 ? 0 : (dim(0) == 0 ? 0 : rows() / dim(0));
  const int64_t elements = rank() == 1 ? begin : begin * rows_per_entry * row_stride_;
  t.base_ += elements * size_of(dtype_);
  t.shape_[0] = count;
  if (rank() == 1) t.row_stride_ = count;
  return t;
}

Tensor Tensor::narrow_last(int64_t begin, int64_t count) const {
  if (rank() == 0 || begin < 0 || count < 0 || begin + count > cols()) {
    fail(ErrorKind::internal, "tensor {}: cannot narrow the last dimension to [{}, {})", to_string(shape_), begin,
         begin + count);
  }
  Tensor t = *this;
  t.base_ += begin * size_of(dtype_);
  t.shape_.back() = count;
  return t;
}

Tensor Tensor::clone() const {
  Tensor t = empty(shape_, dtype_, tag_);
  const auto row_bytes = static_cast<size_t>(cols() * size_of(dtype_));
  for (int64_t r = 0; r < rows(); ++r) {
    std::memcpy(t.base_ + r * static_cast<int64_t>(row_bytes), base_ + r * row_stride_ * size_of(dtype_), row_bytes);
  }
  return t;
}

void Tensor::fill_zero() const {
  const auto row_bytes = static_cast<size_t>(cols() * size_of(dtype_));
  if (contiguous()) {
    std::memset(base_, 0, static_cast<size_t>(bytes()));
    return;
  }
  for (int64_t r = 0; r < rows(); ++r) std::memset(base_ + r * row_stride_ * size_of(dtype_), 0, row_bytes);
}

void Tensor::check_dtype(DType wanted) const {
  if (!defined()) fail(ErrorKind::internal, "tensor: not defined");
  if (wanted != dtype_)
    fail(ErrorKind::internal, "tensor {}: has dtype {}, used as {}", to_string(shape_), to_string(dtype_),
         to_string(wanted));
}

void Tensor::check_contiguous() const {
  if (!contiguous())
    fail(ErrorKind::internal, "tensor {}: rows are {} elements apart, not contiguous", to_string(shape_), row_stride_);
}

void expect_shape(const char* op, const char* name, const Tensor& tensor, const Shape& expected) {
  if (tensor.defined() && tensor.shape() == expected) return;
  fail(ErrorKind::internal, "{}: {} has shape {}, expected {}", op, name,
       tensor.defined() ? to_string(tensor.shape()) : std::string("(none)"), to_string(expected));
}

}  // namespace farsight
