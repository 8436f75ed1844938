// SPDX-License-Identifier: Apache-2.0
#include "kernels/tensor.h"

#include <cstring>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/rows.h"

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

const char* to_string(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Tensor Tensor::empty(Shape shape, DType dtype, MemoryTag tag, Device device) {
  Tensor t;
  const int64_t bytes = count_of(shape) * size_of(dtype);
  t.storage_ = device == Device::cpu ? host_allocator().share(bytes, tag) : cuda_device().allocate(bytes, tag);
  t.base_ = static_cast<std::byte*>(t.storage_.get());
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  t.tag_ = tag;
  t.device_ = device;
  t.row_stride_ = t.cols();
  return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, MemoryTag tag, Device device) {
  Tensor t = empty(std::move(shape), dtype, tag, device);
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

Tensor Tensor::spanning(Shape shape) const {
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
  Tensor t = empty(shape_, dtype_, tag_, device_);
  copy_rows(*this, t);
  return t;
}

Tensor Tensor::to(Device device) const {
  if (device == device_) return *this;
  if (!contiguous()) return clone().to(device);
  const Tensor t = empty(shape_, dtype_, tag_, device);
  device == Device::cuda ? cuda_device().upload(base_, t.base_, bytes())
                         : cuda_device().download(base_, t.base_, bytes());
  return t;
}

void Tensor::fill_zero() const {
  if (numel() == 0) return;
  if (device_ == Device::cuda) {
    cuda_device().zero_rows(*this);
    return;
  }
  const auto row_bytes = static_cast<size_t>(cols() * size_of(dtype_));
  if (contiguous()) {
    std::memset(base_, 0, static_cast<size_t>(bytes()));
    return;
  }
  for (int64_t r = 0; r < rows(); ++r) std::memset(base_ + r * row_stride_ * size_of(dtype_), 0, row_bytes);
}

void Tensor::check_host(DType wanted) const {
  if (!defined()) fail(ErrorKind::internal, "tensor: not defined");
  if (device_ != Device::cpu)
    fail(ErrorKind::internal, "tensor {}: is on the device, used on the host", to_string(shape_));
  if (wanted != dtype_)
    fail(ErrorKind::internal, "tensor {}: has dtype {}, used as {}", to_string(shape_), to_string(dtype_),
         to_string(wanted));
}

void Tensor::check_contiguous() const {
  if (!contiguous())
    fail(ErrorKind::internal, "tensor {}: rows are {} elements apart, not contiguous", to_string(shape_), row_stride_);
}

void copy_to_host(const void* from, Device device, void* to, int64_t bytes) {
  if (bytes == 0) return;
  if (device == Device::cuda) {
    cuda_device().download(from, to, bytes);
  } else {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
}

void expect_together(const char* op, std::initializer_list<const Tensor*> tensors) {
  const Tensor* first = nullptr;
  for (const Tensor* t : tensors) {
    if (!t->defined()) continue;
    if (first == nullptr) first = t;
    if (t->dtype() == first->dtype() && t->device() == first->device()) continue;
    fail(ErrorKind::internal, "{}: {} {} on {} with {} {} on {}", op, to_string(first->dtype()),
         to_string(first->shape()), to_string(first->device()), to_string(t->dtype()), to_string(t->shape()),
         to_string(t->device()));
  }
}

void expect_shape(const char* op, const char* name, const Tensor& tensor, const Shape& expected) {
  if (tensor.defined() && tensor.shape() == expected) return;
  fail(ErrorKind::internal, "{}: {} has shape {}, expected {}", op, name,
       tensor.defined() ? to_string(tensor.shape()) : std::string("(none)"), to_string(expected));
}

}  // namespace farsight
