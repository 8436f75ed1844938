// SPDX-License-Identifier: Apache-2.0
// A handle to a typed, row-major block of host memory from the caching allocator. Copies of a handle share storage.
// Views narrow the leading or the last dimension and share storage too; a view that narrows the last dimension keeps
// the row stride of its parent, every other tensor is contiguous.
//
//   Tensor x = Tensor::empty({batch, tokens, width});
//   float* row = x.data<float>() + t * x.row_stride();
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/allocator.h"

namespace farsight {

enum class DType : uint8_t { f32, f64, bf16, i64, i32, u16, u8 };
int64_t size_of(DType dtype);
const char* to_string(DType dtype);

template <typename T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::i64;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<uint16_t>() {
  return DType::u16;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::u8;
}

using Shape = std::vector<int64_t>;
std::string to_string(const Shape& shape);
int64_t count_of(const Shape& shape);  // elements, 1 for a scalar; Error{internal} for what cannot be

class Tensor {
 public:
  Tensor() = default;  // not defined()

  // Uninitialised / zero-filled. Throws Error{internal} for a negative size, Error{environment} without memory.
  static Tensor empty(Shape shape, DType dtype = DType::f32, MemoryTag tag = MemoryTag::activation);
  static Tensor zeros(Shape shape, DType dtype = DType::f32, MemoryTag tag = MemoryTag::activation);

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t dim(int64_t i) const;  // negative counts from the end; Error{internal} out of range
  int64_t numel() const;
  int64_t cols() const;                               // last dimension (1 for a scalar)
  int64_t rows() const;                               // numel / cols, 0 when cols is 0
  int64_t row_stride() const { return row_stride_; }  // elements between the starts of consecutive rows
  bool contiguous() const { return row_stride_ == cols() || rows() <= 1; }
  int64_t bytes() const { return numel() * size_of(dtype_); }

  // First element. Error{internal} if T is not the dtype.
  template <typename T>
  T* data() const {
    check_dtype(dtype_of<T>());
    return reinterpret_cast<T*>(base_);
  }
  template <typename T>
  std::span<T> span() const {  // contiguous tensors only
    check_contiguous();
    return {data<T>(), static_cast<size_t>(numel())};
  }
  void* raw() const { return base_; }

  Tensor view(Shape shape) const;                          // same elements, contiguous tensors only
  Tensor narrow(int64_t begin, int64_t count) const;       // rows [begin, begin+count) of the leading dimension
  Tensor narrow_last(int64_t begin, int64_t count) const;  // columns of the last dimension; keeps the row stride
  Tensor clone() const;                                    // contiguous copy
  void fill_zero() const;
  bool shares_storage(const Tensor& other) const { return storage_ == other.storage_; }

 private:
  void check_dtype(DType wanted) const;
  void check_contiguous() const;

  std::shared_ptr<void> storage_;
  std::byte* base_ = nullptr;
  Shape shape_;
  int64_t row_stride_ = 0;
  DType dtype_ = DType::f32;
  MemoryTag tag_ = MemoryTag::activation;
};

// Throws Error{internal} "op: name has shape [..], expected [..]" unless the shapes are equal.
void expect_shape(const char* op, const char* name, const Tensor& tensor, const Shape& expected);

}  // namespace farsight
