// SPDX-License-Identifier: Apache-2.0
// A handle to a typed, row-major block of memory, of the host or of this rank's device, from a caching allocator.
// Copies of a handle share storage. Views narrow the leading or the last dimension and share storage too; a view that
// narrows the last dimension keeps the row stride of its parent, every other tensor is contiguous.
//
//   Tensor x = Tensor::empty({batch, tokens, width});
//   float* row = x.data<float>() + t * x.row_stride();
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/allocator.h"
#include "kernels/dtype.h"

namespace farsight {

using Shape = std::vector<int64_t>;
std::string to_string(const Shape& shape);
int64_t count_of(const Shape& shape);  // elements, 1 for a scalar; Error{internal} for what cannot be

class Tensor {
 public:
  Tensor() = default;  // not defined()

  // Uninitialised / zero-filled, on the device that this thread computes on unless another is named. Throws
  // Error{internal} for a negative size, Error{environment} without memory.
  static Tensor empty(Shape shape, DType dtype = DType::f32, MemoryTag tag = MemoryTag::activation,
                      Device device = current_device());
  static Tensor zeros(Shape shape, DType dtype = DType::f32, MemoryTag tag = MemoryTag::activation,
                      Device device = current_device());

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  const Shape& shape() const { return shape_; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t dim(int64_t i) const;  // negative counts from the end; Error{internal} out of range
  int64_t numel() const;
  int64_t cols() const;                               // last dimension (1 for a scalar)
  int64_t rows() const;                               // numel / cols, 0 when cols is 0
  int64_t row_stride() const { return row_stride_; }  // elements between the starts of consecutive rows
  bool contiguous() const { return row_stride_ == cols() || rows() <= 1; }
  int64_t bytes() const { return numel() * size_of(dtype_); }

  // First element, for the host to read and write. Error{internal} if T is not the dtype or the tensor is on a device.
  template <typename T>
  T* data() const {
    check_host(dtype_of<T>());
    return reinterpret_cast<T*>(base_);
  }
  template <typename T>
  std::span<T> span() const {  // contiguous tensors only
    check_contiguous();
    return {data<T>(), static_cast<size_t>(numel())};
  }
  void* raw() const { return base_; }  // wherever it lies

  Tensor view(Shape shape) const;                          // same elements, contiguous tensors only
  Tensor narrow(int64_t begin, int64_t count) const;       // rows [begin, begin+count) of the leading dimension
  Tensor narrow_last(int64_t begin, int64_t count) const;  // columns of the last dimension; keeps the row stride
  // The view of `shape` that begins where this tensor begins and goes on into what adjoins it in the same storage.
  Tensor spanning(Shape shape) const;
  Tensor clone() const;  // contiguous copy
  // A contiguous tensor with these values on the other device; the tensor itself where it is there already. To a device
  // the host goes on at once and may change the original; to the host it waits.
  Tensor to(Device device) const;
  void fill_zero() const;
  bool shares_storage(const Tensor& other) const { return storage_ == other.storage_; }

 private:
  void check_host(DType wanted) const;
  void check_contiguous() const;

  std::shared_ptr<void> storage_;
  std::byte* base_ = nullptr;
  Shape shape_;
  int64_t row_stride_ = 0;
  DType dtype_ = DType::f32;
  MemoryTag tag_ = MemoryTag::activation;
  Device device_ = Device::cpu;
};

// Bytes from host memory, or from the device of this thread, to host memory; waits until they are there.
void copy_to_host(const void* from, Device device, void* to, int64_t bytes);

// Throws Error{internal} naming `op` unless all defined tensors have one type and lie on one device.
void expect_together(const char* op, std::initializer_list<const Tensor*> tensors);

// Throws Error{internal} "op: name has shape [..], expected [..]" unless the shapes are equal.
void expect_shape(const char* op, const char* name, const Tensor& tensor, const Shape& expected);

}  // namespace farsight
