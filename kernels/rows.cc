// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows.h"

#include <algorithm>
#include <cstring>

#include "kernels/bfloat16.h"
#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"

namespace farsight {
namespace {

void check(const char* op, const Tensor& from, const Tensor& to) {
  if (from.rows() == to.rows() && from.cols() == to.cols() && from.device() == to.device()) return;
  fail(ErrorKind::internal, "{}: from {} on {} to {} on {}", op, to_string(from.shape()), to_string(from.device()),
       to_string(to.shape()), to_string(to.device()));
}

bool is_real(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }

float value(float x) { return x; }
float value(uint16_t bits) { return bf16_to_float(bits); }
void assign(float x, float& to) { to = x; }
void assign(float x, uint16_t& to) { to = float_to_bf16(x); }

// Elements that one thread takes at least.
constexpr int64_t kGrain = 8192;

template <class From, class To>
void convert(const From* x, To* y, int64_t count, bool add) {
  for (int64_t i = 0; i < count; ++i) assign(value(x[i]) + (add ? value(y[i]) : 0.0F), y[i]);
}

template <class From, class To>
void convert_rows(const Tensor& from, const Tensor& to, bool add) {
  const int64_t columns = from.cols();
  const auto* source = static_cast<const From*>(from.raw());
  auto* target = static_cast<To*>(to.raw());
  if (from.contiguous() && to.contiguous()) {
    parallel_for(from.numel(), kGrain,
                 [&](int64_t begin, int64_t end) { convert(source + begin, target + begin, end - begin, add); });
    return;
  }
  parallel_for(from.rows(), kGrain / (columns + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      convert(source + r * from.row_stride(), target + r * to.row_stride(), columns, add);
    }
  });
}

void copy_bytes(const Tensor& from, const Tensor& to) {
  const auto* source = static_cast<const std::byte*>(from.raw());
  auto* target = static_cast<std::byte*>(to.raw());
  if (from.contiguous() && to.contiguous()) {
    parallel_for(from.bytes(), 4 * kGrain, [&](int64_t begin, int64_t end) {
      std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin));
    });
    return;
  }
  const auto bytes = static_cast<size_t>(from.cols() * size_of(from.dtype()));
  const int64_t from_stride = from.row_stride() * size_of(from.dtype());
  const int64_t to_stride = to.row_stride() * size_of(to.dtype());
  parallel_for(from.rows(), 4 * kGrain / (from.cols() + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) std::memcpy(target + r * to_stride, source + r * from_stride, bytes);
  });
}

void on_device(const Tensor& from, const Tensor& to, bool add) {
  const bool bytes = !add && from.dtype() == to.dtype() && from.contiguous() && to.contiguous();
  if (bytes) {
    cuda_device().copy(from.raw(), to.raw(), from.bytes());
    return;
  }
  const CudaRowsCopy a{from.rows(),     from.cols(), from.raw(), from.row_stride(), from.dtype(), to.raw(),
                       to.row_stride(), to.dtype(),  add};
  cuda_device().run("copy_rows", &CudaBackend::copy_rows, a);
}

template <class T>
Tensor copy_of(std::span<const T> values) {
  const Tensor host = Tensor::empty({static_cast<int64_t>(values.size())}, dtype_of<T>(), MemoryTag::data, Device::cpu);
  std::copy(values.begin(), values.end(), host.template data<T>());
  return host.to(current_device());
}

}  // namespace

void copy_rows(const Tensor& from, const Tensor& to) {
  check("copy_rows", from, to);
  if (from.numel() == 0) return;
  const bool same = from.dtype() == to.dtype();
  if (!same && !(is_real(from.dtype()) && is_real(to.dtype()))) {
    fail(ErrorKind::internal, "copy_rows: from {} to {}", to_string(from.dtype()), to_string(to.dtype()));
  }
  if (from.device() == Device::cuda) {
    on_device(from, to, /*add=*/false);
  } else if (same) {
    copy_bytes(from, to);
  } else if (from.dtype() == DType::f32) {
    convert_rows<float, uint16_t>(from, to, /*add=*/false);
  } else {
    convert_rows<uint16_t, float>(from, to, /*add=*/false);
  }
}

void add_rows(const Tensor& from, const Tensor& to) {
  check("add_rows", from, to);
  if (!is_real(from.dtype()) || !is_real(to.dtype())) {
    fail(ErrorKind::internal, "add_rows: {} to {}", to_string(from.dtype()), to_string(to.dtype()));
  }
  if (from.numel() == 0) return;
  if (from.device() == Device::cuda) {
    on_device(from, to, /*add=*/true);
  } else if (from.dtype() == DType::f32) {
    to.dtype() == DType::f32 ? convert_rows<float, float>(from, to, true)
                             : convert_rows<float, uint16_t>(from, to, true);
  } else {
    to.dtype() == DType::f32 ? convert_rows<uint16_t, float>(from, to, true)
                             : convert_rows<uint16_t, uint16_t>(from, to, true);
  }
}

void fill(const Tensor& to, float value) {
  if (!is_real(to.dtype()) || !to.contiguous()) fail(ErrorKind::internal, "fill: {}", to_string(to.shape()));
  if (to.device() == Device::cuda) {
    cuda_device().run("fill", &CudaBackend::fill, CudaFill{to.dtype(), to.numel(), to.raw(), value});
  } else if (to.dtype() == DType::f32) {
    float* x = to.data<float>();
    parallel_for(to.numel(), int64_t{1} << 18,
                 [&](int64_t begin, int64_t end) { std::fill(x + begin, x + end, value); });
  } else {
    std::fill_n(static_cast<uint16_t*>(to.raw()), to.numel(), float_to_bf16(value));
  }
}

Tensor device_copy(std::span<const int32_t> values) { return copy_of(values); }
Tensor device_copy(std::span<const int64_t> values) { return copy_of(values); }
Tensor device_copy(std::span<const float> values) { return copy_of(values); }
Tensor device_copy(std::span<const double> values) { return copy_of(values); }

}  // namespace farsight
