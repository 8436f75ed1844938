// SPDX-License-Identifier: Apache-2.0
// Types of tensor elements, and where tensors lie.
#pragma once

#include <cstdint>

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

enum class Device : uint8_t { cpu, cuda };
const char* to_string(Device device);
// Where the operations of this thread run and its tensors are made: the CPU, or inside a CudaScope the device.
Device current_device();

}  // namespace farsight
